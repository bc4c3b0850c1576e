//! How an operand's elements lie along a fused kernel's iteration.

use smallvec::SmallVec;

/// An operand over the iteration, innermost dimension first, neighbours merged where its own
/// strides allow. Strides are in bytes.
#[derive(Clone, Debug)]
pub struct Lane {
    dims: SmallVec<[(usize, isize); 4]>,
    pub element: usize,
}

impl Lane {
    /// Of an operand with these sizes and strides (in elements), outermost first.
    pub fn new(sizes: &[i64], strides: &[i64], element: usize) -> Self {
        let mut dims: SmallVec<[(usize, isize); 4]> = SmallVec::new();
        for (&size, &stride) in sizes.iter().zip(strides).rev() {
            let (size, stride) = (size as usize, stride as isize * element as isize);
            if size == 1 {
                continue;
            }
            match dims.last_mut() {
                Some(inner) if stride == inner.1 * inner.0 as isize => inner.0 *= size,
                _ => dims.push((size, stride)),
            }
        }
        Self { dims, element }
    }

    /// Every element is the same.
    pub fn is_uniform(&self) -> bool {
        self.dims.iter().all(|dim| dim.1 == 0)
    }

    /// All elements lie side by side.
    pub fn is_line(&self) -> bool {
        matches!(self.dims[..], [(_, stride)] if stride == self.element as isize)
    }

    /// Elements of a dense run; zero where neighbours are not dense.
    pub fn dense_run(&self) -> usize {
        match self.dims.first() {
            Some(&(size, stride)) if stride == self.element as isize => size,
            _ => 0,
        }
    }

    /// Elements of a run of one element repeated; zero where neighbours are not the same.
    pub fn repeated_run(&self) -> usize {
        match self.dims.first() {
            Some(&(size, 0)) => size,
            _ => 0,
        }
    }

    /// The bytes from an element of a row of so many to the one that is `by` elements further, in another row,
    /// where that is the same for all.
    pub fn step(&self, row: usize, by: usize) -> Option<isize> {
        let rows = (by / row) as isize;
        match self.dims[..] {
            [] => Some(0),
            [(_, stride)] => Some(stride * by as isize),
            [(size, _), (_, stride)] if size == row && by.is_multiple_of(row) => Some(stride * rows),
            _ => None,
        }
    }

    /// The bytes from each of `count` elements, the first at `start`, to the next, which is `by` elements further, where
    /// that is the same for all: they move along one dimension.
    pub fn step_from(&self, start: usize, by: usize, count: usize) -> Option<isize> {
        let mut inner = 1;
        for &(size, stride) in &self.dims {
            if by.is_multiple_of(inner) && start / inner % size + by / inner * (count - 1) < size {
                return Some(stride * (by / inner) as isize);
            }
            inner *= size;
        }
        self.dims.is_empty().then_some(0)
    }

    /// The bytes from the operand's start to element `at` of the iteration.
    #[inline]
    pub fn offset(&self, mut at: usize) -> isize {
        let Some((&(_, last), inner)) = self.dims.split_last() else { return 0 };
        let mut offset = 0;
        for &(size, stride) in inner {
            offset += (at % size) as isize * stride;
            at /= size;
        }
        offset + at as isize * last
    }

    /// Calls `row(offset, stride, count)` for each piece of an innermost row in the range.
    pub fn rows(&self, start: usize, count: usize, mut row: impl FnMut(isize, isize, usize)) {
        let (size, stride) = self.dims.first().copied().unwrap_or((usize::MAX, 0));
        let (mut at, end) = (start, start + count);
        while at < end {
            let piece = (size - at % size).min(end - at);
            row(self.offset(at), stride, piece);
            at += piece;
        }
    }
}
