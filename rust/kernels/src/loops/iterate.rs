//! Strided iteration over several operands at once: dimensions sorted by the first operand's
//! strides and coalesced, so that most iterations have one or two dimensions left.

use smallvec::{SmallVec, smallvec};

use crate::view::View;

/// Per dimension: its size and each operand's stride in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dim<const OPERANDS: usize> {
    pub size: usize,
    pub strides: [isize; OPERANDS],
}

/// A common iteration space, innermost dimension first. There is always one: a scalar's has size one.
#[derive(Clone, Debug)]
pub struct Space<const OPERANDS: usize> {
    pub dims: SmallVec<[Dim<OPERANDS>; 6]>,
    pub numel: usize,
}

impl<const OPERANDS: usize> Space<OPERANDS> {
    /// The space of operands that all have `sizes`, with their strides.
    pub fn new(sizes: &[i64], strides: [&[i64]; OPERANDS]) -> Self {
        let mut dims: SmallVec<[Dim<OPERANDS>; 6]> = SmallVec::new();
        let mut numel = 1;
        for (index, &size) in sizes.iter().enumerate() {
            numel *= size as usize;
            if size != 1 {
                dims.push(Dim { size: size as usize, strides: strides.map(|strides| strides[index] as isize) });
            }
        }
        if numel == 0 || dims.is_empty() {
            return Self { dims: SmallVec::from_elem(Dim { size: numel, strides: [1; OPERANDS] }, 1), numel };
        }
        dims.reverse();
        // Stable: dimensions that no operand tells apart keep C order.
        dims.sort_by_key(|dim| dim.strides.map(isize::unsigned_abs));
        let mut merged: SmallVec<[Dim<OPERANDS>; 6]> = SmallVec::new();
        for dim in dims {
            if let Some(last) = merged.last_mut()
                && (0..OPERANDS).all(|at| dim.strides[at] == last.strides[at] * last.size as isize)
            {
                last.size *= dim.size;
                continue;
            }
            merged.push(dim);
        }
        Self { dims: merged, numel }
    }

    /// The space of views of one shape.
    pub fn of(views: [&View<'_>; OPERANDS]) -> Self {
        Self::new(views[0].sizes(), views.map(|view| view.strides()))
    }

    pub fn inner(&self) -> Dim<OPERANDS> {
        self.dims[0]
    }

    /// The dimension `at`, not the innermost, and the space of all but these two: where each matrix of them begins.
    pub fn without_inner_and(&self, at: usize) -> (Dim<OPERANDS>, Self) {
        let mut others = self.clone();
        let other = others.dims.remove(at);
        let inner = others.dims.remove(0);
        others.numel /= inner.size * other.size;
        if others.dims.is_empty() {
            others.dims.push(Dim { size: 1, strides: [1; OPERANDS] });
        }
        (other, others)
    }

    /// Calls `row(offsets, count)` for each piece of an innermost row within the linear range
    /// `start..end` of the iteration; of an empty range, none.
    #[inline]
    pub fn rows(&self, start: usize, end: usize, mut row: impl FnMut([isize; OPERANDS], usize)) {
        if start >= end {
            return;
        }
        let inner = self.inner();
        let mut index: SmallVec<[usize; 6]> = smallvec![0; self.dims.len()];
        let mut rest = start;
        for (at, dim) in index.iter_mut().zip(&self.dims) {
            *at = rest % dim.size;
            rest /= dim.size;
        }
        let mut offsets = [0; OPERANDS];
        for (at, dim) in index.iter().zip(&self.dims) {
            for (offset, stride) in offsets.iter_mut().zip(dim.strides) {
                *offset += *at as isize * stride;
            }
        }
        let mut done = start;
        loop {
            let count = (inner.size - index[0]).min(end - done);
            row(offsets, count);
            done += count;
            if done >= end {
                return;
            }
            // The piece ended its row: back to the row's start, then carry outwards.
            for (offset, stride) in offsets.iter_mut().zip(inner.strides) {
                *offset -= index[0] as isize * stride;
            }
            index[0] = 0;
            for (at, dim) in index.iter_mut().zip(&self.dims).skip(1) {
                *at += 1;
                for (offset, stride) in offsets.iter_mut().zip(dim.strides) {
                    *offset += stride;
                }
                if *at < dim.size {
                    break;
                }
                for (offset, stride) in offsets.iter_mut().zip(dim.strides) {
                    *offset -= dim.size as isize * stride;
                }
                *at = 0;
            }
        }
    }
}

/// Whether the views lie in one order without gaps, so that they can be walked linearly.
pub fn alike(views: &[&View<'_>]) -> bool {
    let first = views[0];
    let line =
        |view: &View<'_>| matches!(Space::of([first, view]).dims[..], [dim] if dim.size <= 1 || dim.strides == [1, 1]);
    views.iter().all(|view| view.is_contiguous()) || views.iter().all(|view| line(view))
}
