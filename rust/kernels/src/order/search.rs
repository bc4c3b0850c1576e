//! Looking values up: searchsorted and isin.

use std::cmp::Ordering;

use super::key::Ordered;
use crate::convert::Compute;
use crate::dtype::DType;
use crate::element::Bool;
use crate::error::{Error, Result};
use crate::fallible::reserved;
use crate::index::{Arithmetic, Dims, expect};
use crate::loops::iterate::Space;
use crate::match_stored;
use crate::threads;
use crate::view::{Attrs, View};

/// Values of a task.
const TASK: usize = 4 * 1024;

/// `[out (i64 or i32), boundaries, values, sorter? (i64)]`, ints `[right]`: for each value, how many
/// of its line's boundaries, in their order or the sorter's, are below it (or with `right`, not
/// above). Boundaries are 1-D, or have the values' shape but for the last size.
pub fn searchsorted(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, boundaries, values, sorter] = expect(views)?;
    boundaries.expect_dtype("boundaries", values.dtype())?;
    let rank = boundaries.rank();
    if out.sizes() != values.sizes() || rank == 0 {
        return Err(Error::Shape(format!("cannot search {boundaries:?} for {values:?} into {out:?}")));
    }
    let last = rank - 1;
    let shared = rank == 1;
    if !shared && (rank != values.rank() || boundaries.sizes()[..last] != values.sizes()[..last]) {
        return Err(Error::Shape(format!("boundaries {boundaries:?} and values {values:?} have other leading sizes")));
    }
    if let Some(sorter) = sorter.optional() {
        sorter.expect_dtype("sorter", DType::I64)?;
        if sorter.sizes() != boundaries.sizes() {
            return Err(Error::Shape(format!("the sorter {sorter:?} has not the shape of {boundaries:?}")));
        }
        expect_below(sorter, boundaries.sizes()[last])?;
    }
    let sorter = sorter.optional();
    // Where a value's line of boundaries begins.
    let lines = |view: &View<'_>| -> Dims {
        let mut strides = Dims::from_elem(0, values.rank());
        if !shared {
            strides[..last].copy_from_slice(&view.strides()[..last]);
        }
        strides
    };
    let sorter_lines = sorter.map_or_else(|| Dims::from_elem(0, values.rank()), lines);
    let space = Space::new(values.sizes(), [out.strides(), values.strides(), &lines(&boundaries), &sorter_lines]);
    let (inner, right, length) = (space.inner().strides, attrs.flag(0), boundaries.size(last));
    let step = boundaries.stride(last);
    let each = 4 * (length.max(1).ilog2() as usize + 1);
    let wide = out.dtype() == DType::I64;
    if !wide {
        out.expect_dtype("out", DType::I32)?;
    }
    match_stored!(values.dtype(), S => threads::parallel_chunks(space.numel, TASK, space.numel * each, |range| {
        space.rows(range.start, range.end, |offsets, count| {
            for row in 0..count as isize {
                let at = |operand: usize| offsets[operand] + row * inner[operand];
                let load = |offset: isize| {
                    // SAFETY: an element of the boundaries: the sorter's indices were checked.
                    <S as Arithmetic>::Math::load(unsafe { *boundaries.ptr::<S>().wrapping_offset(at(2) + offset * step) })
                };
                // SAFETY: an element of the values, one of the sorter's line, and one of the output.
                unsafe {
                    let value = <S as Arithmetic>::Math::load(*values.ptr::<S>().wrapping_offset(at(1)));
                    let found = search(length, |middle| {
                        let place = middle as isize;
                        let boundary = load(sorter.map_or(place, |sorter| {
                            *sorter.ptr::<i64>().wrapping_offset(at(3) + place * sorter.stride(last)) as isize
                        }));
                        // A NaN goes behind all boundaries.
                        match boundary.partial_cmp(&value) {
                            Some(Ordering::Greater) => false,
                            Some(Ordering::Equal) => right,
                            _ => true,
                        }
                    });
                    if wide {
                        *out.ptr::<i64>().wrapping_offset(at(0)) = found as i64;
                    } else {
                        *out.ptr::<i32>().wrapping_offset(at(0)) = found as i32;
                    }
                }
            }
        });
    }));
    Ok(())
}

/// Refuses indices that are not in `0..size`.
fn expect_below(indices: &View<'_>, size: i64) -> Result<()> {
    let mut inside = true;
    for_each::<i64>(indices, |index| inside &= (0..size).contains(&index));
    if inside { Ok(()) } else { Err(Error::Runtime("torch.searchsorted(): sorter index out of range".into())) }
}

/// How many positions of `0..length` are `before`; they come first.
#[inline(always)]
pub(super) fn search(length: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut start, mut end) = (0, length);
    while start < end {
        let middle = start + (end - start) / 2;
        if before(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}

/// `[out (bool), elements, tests]`, out and elements of one shape, ints `[invert]`: whether each
/// element equals one of the tests. NaN equals none.
pub fn isin(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, elements, tests] = expect(views)?;
    out.expect_dtype("out", DType::Bool)?;
    tests.expect_dtype("tests", elements.dtype())?;
    if out.sizes() != elements.sizes() {
        return Err(Error::Shape(format!("the output {out:?} has not the shape of {elements:?}")));
    }
    let space = Space::of([&out, &elements]);
    let (inner, invert) = (space.inner().strides, attrs.flag(0));
    match_stored!(elements.dtype(), S => {
        let keys = distinct_keys::<S>(&tests);
        let each = 4 * (keys.len().max(1).ilog2() as usize + 1);
        threads::parallel_chunks(space.numel, TASK, space.numel * each, |range| {
            space.rows(range.start, range.end, |offsets, count| {
                for row in 0..count as isize {
                    // SAFETY: an element of both views.
                    unsafe {
                        let key = (*elements.ptr::<S>().wrapping_offset(offsets[1] + row * inner[1])).key();
                        let place = search(keys.len(), |middle| keys[middle] < key);
                        let found = keys.get(place) == Some(&key);
                        *out.ptr::<Bool>().wrapping_offset(offsets[0] + row * inner[0]) = Bool::new(found != invert);
                    }
                }
            });
        });
    });
    Ok(())
}

/// Calls `each` with every element, in no certain order.
fn for_each<T: Copy>(view: &View<'_>, mut each: impl FnMut(T)) {
    if view.numel() == 0 {
        return;
    }
    let space = Space::of([view]);
    let step = space.inner().strides[0];
    space.rows(0, space.numel, |[offset], count| {
        for at in 0..count as isize {
            // SAFETY: an element of the view.
            each(unsafe { *view.ptr::<T>().wrapping_offset(offset + at * step) });
        }
    });
}

/// The keys of the elements that equal themselves, ascending.
fn distinct_keys<S: Ordered>(tests: &View<'_>) -> Vec<u64> {
    let mut keys = reserved(tests.numel());
    for_each(tests, |test: S| keys.push(test.key()));
    keys.retain(|&key| !S::is_nan_key(key));
    keys.sort_unstable();
    keys.dedup();
    keys
}
