//! Copies between views that are dense in different dimensions: by squares, so that the lines of the cache
//! are read and written whole, however far apart they lie.

use super::iterate::{Dim, Space};
use crate::isa::Level;
use crate::lanes::{Vectorised, vectorise_at};
use crate::threads;

/// Rows and columns of a square.
const SIDE: usize = 16;
/// Rows of a band, some squares of them: what lies side by side in the source is read before another page is.
const BAND: usize = 4 * SIDE;
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
        let (down, others) = space.without_inner_and(at);
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
        let bands = self.down.size.div_ceil(BAND);
        let band = BAND.min(self.down.size) * self.across.size;
        let count = self.others.numel * bands;
        threads::parallel_chunks(count, (TASK / band).max(1), count * band / 2, |range| {
            for index in range {
                let (matrix, first) = (index / bands, index % bands * BAND);
                self.others.rows(matrix, matrix + 1, |offsets, _| {
                    let offset = |at: usize| offsets[at] + first as isize * self.down.strides[at];
                    let task = Band {
                        to: ends.0.wrapping_offset(offset(0)),
                        from: ends.1.wrapping_offset(offset(1)),
                        to_stride: self.down.strides[0],
                        from_stride: self.across.strides[1],
                        rows: BAND.min(self.down.size - first),
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
    /// At most [`BAND`].
    rows: usize,
    columns: usize,
}

impl<T: Copy> Vectorised for Band<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { to, from, to_stride, from_stride, rows, columns } = self;
        let whole = [rows, columns].map(|size| size - size % SIDE);
        let one = |row: usize, column: usize| {
            let from = from.wrapping_offset(column as isize * from_stride).wrapping_add(row);
            (to.wrapping_offset(row as isize * to_stride).wrapping_add(column), from)
        };
        // SAFETY: rows and columns are within the band. Elements of sixteen bytes may lie on eight.
        unsafe {
            for column in (0..whole[1]).step_by(SIDE) {
                for row in (0..whole[0]).step_by(SIDE) {
                    let (to, from) = one(row, column);
                    Self::square(to, to_stride, from, from_stride);
                }
            }
            for column in 0..columns {
                let done = if column < whole[1] { whole[0] } else { 0 };
                for row in done..rows {
                    let (to, from) = one(row, column);
                    to.write_unaligned(from.read_unaligned());
                }
            }
        }
    }
}

impl<T: Copy> Band<T> {
    /// # Safety
    /// A square from there on is within both views.
    #[inline(always)]
    unsafe fn square(to: *mut T, to_stride: isize, from: *const T, from_stride: isize) {
        // SAFETY: the caller's.
        unsafe {
            let square: [[T; SIDE]; SIDE] = std::array::from_fn(|column| {
                from.wrapping_offset(column as isize * from_stride).cast::<[T; SIDE]>().read_unaligned()
            });
            let lines: [[T; SIDE]; SIDE] = std::array::from_fn(|row| std::array::from_fn(|column| square[column][row]));
            for (row, line) in lines.into_iter().enumerate() {
                to.wrapping_offset(row as isize * to_stride).cast::<[T; SIDE]>().write_unaligned(line);
            }
        }
    }
}
