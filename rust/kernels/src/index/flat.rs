//! take and put: indices into a tensor's elements in C order, whatever its shape.

use smallvec::SmallVec;

use std::sync::atomic::{AtomicI64, Ordering};

use super::read::expect;
use super::steer::{Layout, Source, put as put_through, take as take_through};
use super::write::accumulated;
use super::{Arithmetic, Dims, contiguous_strides, match_size, offset_of};
use crate::convert::Compute;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::loops::iterate::Space;
use crate::match_stored;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Indices of a task.
const TASK: usize = 16 * 1024;

/// `[out, self, index (i64)]`: the elements that the index names, in its shape.
pub fn take(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [out, from, index] = expect(views)?;
    let (layout, offsets) = flat(&from, &index)?;
    take_through(&out, &from, &layout, &offsets)
}

/// `[self, index (i64), source]`, index and source of one shape; ints `[accumulate]`.
pub fn put(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index, from] = expect(views)?;
    from.expect_dtype("source", to.dtype())?;
    if from.sizes() != index.sizes() {
        return Err(Error::Shape(format!("the source {from:?} has not the index's shape {index:?}")));
    }
    if !attrs.flag(0) {
        let (layout, offsets) = flat(&to, &index)?;
        match_size!(to.dtype(), T => {
            let source = Source { data: from.ptr::<T>().cast_const(), strides: from.strides() };
            // SAFETY: the layout and its offsets are of `to`; the source has the layout's sizes.
            unsafe { put_through(to.ptr::<T>(), &layout, &offsets, &source, |_, value| value) };
        });
        return Ok(());
    }
    match_stored!(to.dtype(), S => accumulated::<S>(&to, |to| {
        let (layout, offsets) = flat(to, &index)?;
        let source = Source { data: from.ptr::<S>().cast_const(), strides: from.strides() };
        let add = |sum: <S as Arithmetic>::Math, value: S| sum.add(Compute::load(value));
        // SAFETY: as above.
        unsafe { put_through(to.ptr(), &layout, &offsets, &source, add) };
        Ok(())
    }))
}

/// The layout of an index into all elements, and the elements' offsets, dense in the index's order.
fn flat(steered: &View<'_>, index: &View<'_>) -> Result<(Layout, Vec<isize>)> {
    index.expect_dtype("index", DType::I64)?;
    let numel = steered.numel() as i64;
    let dense = contiguous_strides(index.sizes());
    let layout = Layout {
        sizes: index.sizes().into(),
        tensor: Dims::from_elem(0, index.rank()),
        offsets: dense.clone(),
        steered: SmallVec::from_iter((0..index.rank()).map(|_| true)),
    };
    let mut offsets = filled(index.numel(), 0isize);
    struct Target(*mut isize);
    // SAFETY: tasks write disjoint ranges.
    unsafe impl Sync for Target {}
    impl Target {
        fn at(&self, offset: isize) -> *mut isize {
            self.0.wrapping_offset(offset)
        }
    }
    let target = Target(offsets.as_mut_ptr());
    let space = Space::new(index.sizes(), [&dense, index.strides()]);
    let inner = space.inner().strides;
    let contiguous = steered.is_contiguous();
    // The first bad index in C order, and where it is.
    let refused = AtomicI64::new(i64::MAX);
    threads::parallel_chunks(space.numel, TASK, space.numel * if contiguous { 1 } else { 8 }, |range| {
        space.rows(range.start, range.end, |[to, from], count| {
            for at in 0..count as isize {
                let place = to + at * inner[0];
                // SAFETY: the row is within the index, and the place within the offsets.
                let value = unsafe { *index.ptr::<i64>().wrapping_offset(from + at * inner[1]) };
                if value < -numel || value >= numel {
                    refused.fetch_min(place as i64, Ordering::Relaxed);
                    continue;
                }
                let linear = if value < 0 { value + numel } else { value };
                // SAFETY: as above.
                unsafe {
                    *target.at(place) = if contiguous { linear as isize } else { offset_of(steered, linear as usize) }
                };
            }
        });
    });
    match refused.into_inner() {
        i64::MAX => Ok((layout, offsets)),
        place => {
            // SAFETY: the place is one of the index's.
            let value = unsafe { *index.ptr::<i64>().wrapping_offset(offset_of(index, place as usize)) };
            Err(Error::OutOfRange { index: value, elements: numel })
        }
    }
}
