//! Copies between views that are dense in different dimensions: by squares, so that the lines of the cache
//! are read and written whole, however far apart they lie.

use super::iterate::{Dim, Space};
use crate::isa::Level;
use crate::lanes::{Vectorised, vectorise_at};
use crate::threads;

/// Rows and columns of a square.
const SIDE: usize = 16;
/// Elements of a task; fixed, so that the thread count never moves a boundary.
const TASK: usize = 32 * 1024;

/// The copy of one type's elements from one view to another of its shape.
pub struct Transpose {
    /// Dense in the target.
    across: Dim<2>,
    /// Dense in the source.
    down: Dim<2>,
    /// The other dimensions: their strides say where each matrix begins.
    others: Space<2>,
}

impl Transpose {
    /// The copy over a space of target and source, where squares are worth it.
    pub fn of(space: &Space<2>) -> Option<Self> {
        let across = space.inner();
        if across.strides[0] != 1 || across.strides[1].unsigned_abs() <= 1 || across.size < SIDE {
            return None;
        }
        let at = space.dims.iter().position(|dim| dim.strides[1] == 1 && dim.size >= SIDE)?;
        let mut others = space.clone();
        let down = others.dims.remove(at);
        others.dims.remove(0);
        others.numel /= across.size * down.size;
        if others.dims.is_empty() {
            others.dims.push(Dim { size: 1, strides: [1; 2] });
        }
        Some(Self { across, down, others })
    }

    /// # Safety
    /// Both are valid for the space that this was made of, and are disjoint; the CPU has the level.
    pub unsafe fn run<T: Copy + Send + Sync>(&self, level: Level, to: *mut T, from: *const T) {
        struct Ends<T>(*mut T, *const T);
        // SAFETY: addresses; tasks write disjoint bands.
        unsafe impl<T> Sync for Ends<T> {}
        let ends = Ends(to, from);
        let ends = &ends;
        let bands = self.down.size.div_ceil(SIDE);
        let band = SIDE * self.across.size;
        let count = self.others.numel * bands;
        threads::parallel_chunks(count, (TASK / band).max(1), count * band / 2, |range| {
            for index in range {
                let (matrix, first) = (index / bands, index % bands * SIDE);
                self.others.rows(matrix, matrix + 1, |offsets, _| {
                    let offset = |at: usize| offsets[at] + first as isize * self.down.strides[at];
                    let task = Band {
                        to: ends.0.wrapping_offset(offset(0)),
                        from: ends.1.wrapping_offset(offset(1)),
                        to_stride: self.down.strides[0],
                        from_stride: self.across.strides[1],
                        rows: SIDE.min(self.down.size - first),
                        columns: self.across.size,
                    };
                    // SAFETY: the band is within both views; the caller vouches for the level.
                    unsafe { vectorise_at(level, task) };
                });
            }
        });
    }
}

/// Some lines of the target: columns of the source.
struct Band<T> {
    to: *mut T,
    from: *const T,
    to_stride: isize,
    from_stride: isize,
    /// At most [`SIDE`].
    rows: usize,
    columns: usize,
}

impl<T: Copy> Vectorised for Band<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { to, from, to_stride, from_stride, rows, columns } = self;
        let mut done = 0;
        // SAFETY: rows and columns are within the band. Elements of sixteen bytes may lie on eight.
        unsafe {
            if rows == SIDE {
                while done + SIDE <= columns {
                    let from = from.wrapping_offset(done as isize * from_stride);
                    let square: [[T; SIDE]; SIDE] = std::array::from_fn(|column| {
                        from.wrapping_offset(column as isize * from_stride).cast::<[T; SIDE]>().read_unaligned()
                    });
                    let lines: [[T; SIDE]; SIDE] =
                        std::array::from_fn(|row| std::array::from_fn(|column| square[column][row]));
                    for (row, line) in lines.into_iter().enumerate() {
                        let to = to.wrapping_offset(row as isize * to_stride).wrapping_add(done);
                        to.cast::<[T; SIDE]>().write_unaligned(line);
                    }
                    done += SIDE;
                }
            }
            for column in done..columns {
                for row in 0..rows {
                    let from = from.wrapping_offset(column as isize * from_stride).wrapping_add(row);
                    let to = to.wrapping_offset(row as isize * to_stride).wrapping_add(column);
                    to.write_unaligned(from.read_unaligned());
                }
            }
        }
    }
}
