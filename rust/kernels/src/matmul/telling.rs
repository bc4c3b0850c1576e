//! Tells which cells of a product are final.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Batch;
use super::cell::Cells;
use crate::fallible::Collected;
use crate::finish::{self, Finish, Pending};

/// Bytes of a result that is in the second-level cache when all of it is done.
const SMALL: usize = 512 << 10;

enum When {
    /// Cells that are whole rows, or parts of one.
    Cell,
    /// Rows of cells: parts of many rows would be many short runs. Counts the cells that are done of each.
    Row(Vec<AtomicUsize>),
    End,
}

pub struct Telling<'a> {
    finish: &'a dyn Finish,
    when: When,
    /// Elements of all products.
    total: usize,
    /// Cells of a row of them.
    across: usize,
    cols: usize,
    /// The strides of products, rows and columns.
    strides: [isize; 3],
}

impl<'a> Telling<'a> {
    pub fn new<S: Copy>(finish: &'a dyn Finish, out: &Batch<S>, products: usize, cells: &Cells) -> Self {
        let (rows, cols) = (out.first.rows, out.first.cols);
        let total = products * rows * cols;
        let [down, across] = cells.grid();
        let is_turned = out.first.row_stride < out.first.col_stride && rows > 1 && cols > 1;
        let dims = [(rows, out.first.row_stride), (cols, out.first.col_stride)];
        let is_apart = dims.iter().any(|dim| dim.0 > 1) && !dims.iter().any(|&(size, stride)| size > 1 && stride == 1);
        let when = match () {
            () if is_apart => When::End,
            () if (if is_turned { down } else { across }) == 1 || rows == 1 || cols == 1 => When::Cell,
            () if is_turned || total * size_of::<S>() < SMALL => When::End,
            () => When::Row((0..products * down).map(|_| AtomicUsize::new(0)).collected()),
        };
        Self { finish, when, total, across, cols, strides: [out.stride, out.first.row_stride, out.first.col_stride] }
    }

    /// The cell that `Cells::of_task` gives so is done.
    ///
    /// # Safety
    /// It is, and nothing touches it any more.
    pub unsafe fn cell(
        &self,
        pending: &mut Pending<'_>,
        number: usize,
        (product, row, col, rows, cols): (usize, usize, usize, usize, usize),
    ) {
        let start = |col: usize| {
            let at = [product, row, col].into_iter().zip(self.strides);
            at.map(|(at, stride)| at * stride as usize).sum::<usize>()
        };
        let dims = |cols: usize| [(rows, self.strides[1]), (cols, self.strides[2])];
        // SAFETY: the caller's; the last to finish sees what the others of its row have written.
        unsafe {
            match &self.when {
                When::Cell => pending.add(start(col), dims(cols)),
                When::Row(done) => {
                    if done[number / self.across].fetch_add(1, Ordering::AcqRel) + 1 == self.across {
                        pending.add(start(0), dims(self.cols));
                    }
                }
                When::End => {}
            }
        }
    }

    pub fn pending(&self) -> Pending<'a> {
        Pending::new(self.finish)
    }

    /// All cells are done.
    ///
    /// # Safety
    /// They are.
    pub unsafe fn end(&self) {
        if matches!(self.when, When::End) {
            // SAFETY: the caller's.
            unsafe { finish::tell(self.finish, 0..self.total, self.total) };
        }
    }
}
