//! Who wants to know, while a product or a convolution runs, which elements of its result are final:
//! they are still in the cache then.

use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::ops::{Op, Row};
use crate::reduce::Runs;
use crate::threads;
use crate::view::{Attrs, View};
use crate::{conv, matmul};

/// Elements of a task of what is told at once.
const TASK: usize = 16 * 1024;

/// Is told of each element of a dense result once.
pub trait Finish: Sync {
    /// These elements, by their place in memory, are final.
    ///
    /// # Safety
    /// They are elements of the result, which the kernel has written and does not touch any more.
    unsafe fn finish(&self, runs: Runs);
    /// What it does with all elements, about, on one thread.
    fn nanoseconds(&self) -> usize;
}

/// A row that tells which elements of its result, the first view, are final. Those lie side by side, in
/// whichever order of the dimensions. After an error some may not have been told of.
pub type Launch = fn(&[View<'_>], &Attrs<'_>, Option<&dyn Finish>) -> Result<()>;

/// The rows that can tell.
pub fn row(row: &Row) -> Option<Launch> {
    let launches: [(Op, Launch); 5] = [
        (Op::matmul, matmul::matmul_telling),
        (Op::batch_matmul, matmul::batch_matmul_telling),
        (Op::addmm, matmul::addmm_telling),
        (Op::conv_forward, conv::forward_telling),
        (Op::conv_input_grad, conv::input_grad_telling),
    ];
    launches.into_iter().find(|(op, _)| row.is(*op)).map(|(_, launch)| launch)
}

/// Refuses a result whose elements do not lie side by side, where someone is told of their places.
pub(crate) fn check(finish: Option<&dyn Finish>, result: &View<'_>) -> Result<()> {
    if finish.is_none() || result.numel() == 0 || lies_dense(result.sizes(), result.strides()) {
        return Ok(());
    }
    Err(Error::Runtime(format!("expected a dense result, got strides {:?}", result.strides())))
}

/// Whether elements lie side by side, in whichever order of their dimensions.
pub fn lies_dense(sizes: &[i64], strides: &[i64]) -> bool {
    let dims = sizes.iter().zip(strides).map(|(&size, &stride)| (size as usize, stride as isize));
    let mut dims: Vec<(usize, isize)> = dims.collected();
    dims.sort_unstable_by_key(|&(size, stride)| (stride, size));
    is_dense(dims)
}

/// Whether dimensions (size, stride), innermost first, leave no gaps.
pub(crate) fn is_dense(dims: impl IntoIterator<Item = (usize, isize)>) -> bool {
    let mut expected = 1;
    dims.into_iter().filter(|&(size, _)| size != 1).all(|(size, stride)| {
        let is_next = stride == expected;
        expected *= size as isize;
        is_next
    })
}

/// Tells of a range of `total` elements, on as many threads as that is worth.
///
/// # Safety
/// As for [`Finish::finish`].
pub(crate) unsafe fn tell(finish: &dyn Finish, range: std::ops::Range<usize>, total: usize) {
    let nanoseconds = finish.nanoseconds() / total.div_ceil(range.len().max(1)).max(1);
    threads::parallel_chunks(range.len(), TASK, nanoseconds, |part| {
        // SAFETY: the caller's; the parts are apart.
        unsafe { finish.finish(run(range.start + part.start, part.len())) };
    });
}

/// Elements side by side.
fn run(start: usize, length: usize) -> Runs {
    Runs { start, length, count: 1, step: length }
}

/// Puts together what is told of elements side by side.
pub(crate) struct Pending<'a> {
    finish: &'a dyn Finish,
    runs: Option<Runs>,
}

impl<'a> Pending<'a> {
    pub fn new(finish: &'a dyn Finish) -> Self {
        Self { finish, runs: None }
    }

    /// The elements of two dimensions (size, stride) from `start`, in one of which they are side by side.
    ///
    /// # Safety
    /// As for [`Finish::finish`], until this is [done](Self::done).
    pub unsafe fn add(&mut self, start: usize, dims: [(usize, isize); 2]) {
        let mut dims = dims.map(|(size, stride)| if size == 1 { (1, isize::MAX) } else { (size, stride) });
        dims.sort_unstable_by_key(|&(_, stride)| stride);
        let [(length, inner), (count, outer)] = dims;
        debug_assert!(inner == 1 || length == 1, "{dims:?}");
        let runs = if count == 1 || outer as usize == length {
            run(start, length * count)
        } else {
            Runs { start, length, count, step: outer as usize }
        };
        // SAFETY: the caller's.
        unsafe { self.push(runs) };
    }

    unsafe fn push(&mut self, runs: Runs) {
        if let Some(before) = &mut self.runs
            && before.count == 1
            && runs.count == 1
            && before.start + before.length == runs.start
        {
            *before = run(before.start, before.length + runs.length);
            return;
        }
        // SAFETY: the caller's.
        unsafe { self.done() };
        self.runs = Some(runs);
    }

    /// Tells of what is left.
    ///
    /// # Safety
    /// As for [`Self::add`].
    pub unsafe fn done(&mut self) {
        if let Some(runs) = self.runs.take() {
            // SAFETY: the caller's.
            unsafe { self.finish.finish(runs) };
        }
    }
}
