//! Which output positions a vector covers: vectors along the rows, or along whole planes where
//! rows are short and the gaps between them cost less than half-empty vectors.

use crate::fallible::push;

/// A run of a vector's lanes that are outputs, dense in the output's row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    pub lane: usize,
    pub count: usize,
    /// Elements from the first output of the image and channel.
    pub out: isize,
}

/// A vector of positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Elements from the source plane's start.
    pub input: isize,
    pub first_piece: usize,
    pub pieces: usize,
}

#[derive(Debug, Default)]
pub struct Positions {
    pub vectors: Vec<Position>,
    pub pieces: Vec<Piece>,
}

/// The outputs' shape, the source's pitches and the output's strides.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub count: [usize; 3],
    /// Elements between planes and rows of the source (along a row: one).
    pub depth_pitch: isize,
    pub row_pitch: isize,
    /// Elements between outputs.
    pub out: [isize; 3],
    /// The source ends with its last position: no vector may reach over it.
    pub exact: bool,
}

impl Layout {
    /// Vectors along the plane, or None where the rows are too far apart for that.
    fn along_plane(&self, lanes: usize) -> Option<usize> {
        let [_, rows, cols] = self.count;
        let run = (rows - 1) * self.row_pitch as usize + cols;
        let dense = !self.exact || self.row_pitch == cols as isize;
        (dense && (!self.exact || run >= lanes)).then(|| run.div_ceil(lanes))
    }

    fn along_rows(&self, lanes: usize) -> Option<usize> {
        let [_, rows, cols] = self.count;
        (!self.exact || cols >= lanes).then(|| rows * cols.div_ceil(lanes))
    }

    /// Whether vectors of `lanes` can cover the outputs at all (always, where the source has slack).
    pub fn fits(&self, lanes: usize) -> bool {
        self.along_plane(lanes).is_some() || self.along_rows(lanes).is_some()
    }

    pub fn positions(&self, lanes: usize) -> Positions {
        let mut positions = Positions::default();
        let [depth, rows, cols] = self.count;
        let flat = match (self.along_plane(lanes), self.along_rows(lanes)) {
            (Some(plane), Some(rows)) => plane < rows,
            (plane, _) => plane.is_some(),
        };
        for plane in 0..depth {
            let base = (plane as isize * self.depth_pitch, plane as isize * self.out[0]);
            if flat {
                let run = (rows - 1) * self.row_pitch as usize + cols;
                self.cover(&mut positions, base, run, self.row_pitch as usize, lanes);
            } else {
                for row in 0..rows as isize {
                    let base = (base.0 + row * self.row_pitch, base.1 + row * self.out[1]);
                    self.cover(&mut positions, base, cols, cols, lanes);
                }
            }
        }
        positions
    }

    /// Covers `run` positions from `base` by vectors, dropping the gaps between rows.
    fn cover(&self, positions: &mut Positions, base: (isize, isize), run: usize, pitch: usize, lanes: usize) {
        let cols = self.count[2];
        let mut done = 0;
        while done < run {
            // Where the source ends with the run, the last vector starts earlier and skips what
            // is done already.
            let start = if self.exact { done.min(run - lanes) } else { done };
            let end = (start + lanes).min(run);
            let first_piece = positions.pieces.len();
            let mut at = done;
            while at < end {
                let (row, col) = (at / pitch, at % pitch);
                if col >= cols {
                    at = (row + 1) * pitch;
                    continue;
                }
                let count = (cols - col).min(end - at);
                let out = base.1 + row as isize * self.out[1] + col as isize * self.out[2];
                let lane = at - start;
                at += count;
                if let Some(last) = positions.pieces[first_piece..].last_mut()
                    && last.lane + last.count == lane
                    && last.out + last.count as isize * self.out[2] == out
                {
                    last.count += count;
                    continue;
                }
                push(&mut positions.pieces, Piece { lane, count, out });
            }
            let pieces = positions.pieces.len() - first_piece;
            if pieces > 0 {
                push(&mut positions.vectors, Position { input: base.0 + start as isize, first_piece, pieces });
            }
            done = end;
        }
    }
}
