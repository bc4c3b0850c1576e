//! Which boxes to keep of those that overlap.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, push};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::reduce::engine::Shared;
use crate::threads;
use crate::validate::indices::Legal;
use crate::view::{Attrs, View};
use crate::vision::Own;

/// Boxes of a task.
const TASK: usize = 4096;

/// `[keep (i64, [N]), count (one i64), boxes ([N, 4]), order (i64, [N])]`, floats `[threshold]`: of boxes (left, top,
/// right, bottom), the places of those that no better one overlaps by more than the threshold, the best first; `order`
/// has all places, the best first.
pub fn nms(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [keep, count, boxes, order] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    order.expect_rank("order", 1)?;
    let number = order.size(0);
    boxes.expect_sizes("boxes", &[number, 4])?;
    keep.expect_sizes("keep", &[number])?;
    count.expect_sizes("count", &[1])?;
    for (name, view) in [("keep", keep), ("count", count), ("order", order)] {
        view.expect_dtype(name, DType::I64)?;
    }
    let size = number as i64;
    Legal::below(size).check(order, |index| Error::Index { index, dim: 0, size })?;
    let kept = match boxes.dtype() {
        DType::F32 => kept::<f32>(boxes, order, attrs.float(0)),
        DType::F64 => kept::<f64>(boxes, order, attrs.float(0)),
        other => return Error::dtype(other),
    };
    for (at, &place) in kept.iter().enumerate() {
        // SAFETY: no more places than boxes.
        unsafe { *keep.ptr::<i64>().wrapping_offset(at as isize * keep.stride(0)) = place };
    }
    // SAFETY: one i64.
    unsafe { *count.ptr::<i64>() = kept.len() as i64 };
    Ok(())
}

fn kept<T: Own + Into<f64>>(boxes: &View<'_>, order: &View<'_>, threshold: f64) -> Vec<i64> {
    let number = order.size(0);
    // SAFETY: places within the view, whose size and dtype were checked.
    let place = |at: usize| unsafe { *order.ptr::<i64>().wrapping_offset(at as isize * order.stride(0)) };
    let places: Vec<i64> = (0..number).map(place).collected();
    let sides: [Vec<T>; 4] = std::array::from_fn(|side| {
        let coordinate = |&place: &i64| {
            let offset = place as isize * boxes.stride(0) + side as isize * boxes.stride(1);
            // SAFETY: the places are the boxes', whose sizes and dtype were checked.
            unsafe { *boxes.ptr::<T>().wrapping_offset(offset) }
        };
        places.iter().map(coordinate).collected()
    });
    let [lefts, tops, rights, bottoms] = &sides;
    let areas: Vec<T> = (0..number).map(|at| (rights[at] - lefts[at]) * (bottoms[at] - tops[at])).collected();
    let mut hidden = filled(number, false);
    let mut kept = Vec::new();
    let level = isa::level();
    for best in 0..number {
        if hidden[best] {
            continue;
        }
        push(&mut kept, places[best]);
        let rest = best + 1;
        let target = Shared(hidden.as_mut_ptr());
        threads::parallel_chunks(number - rest, TASK, number - rest, |range| {
            let range = rest + range.start..rest + range.end;
            let part = |values: &'_ Vec<T>| values[range.clone()].as_ptr();
            let hide = Hide {
                best: [lefts[best], tops[best], rights[best], bottoms[best]],
                area: areas[best],
                others: sides.each_ref().map(part),
                areas: part(&areas),
                count: range.len(),
                threshold,
                hidden: target.at(range.start),
            };
            // SAFETY: each list has the range, and tasks write disjoint parts of `hidden`.
            unsafe { vectorise_at(level, hide) };
        });
    }
    kept
}

/// Marks the boxes that the best one overlaps by more than the threshold.
struct Hide<T> {
    best: [T; 4],
    area: T,
    others: [*const T; 4],
    areas: *const T,
    count: usize,
    threshold: f64,
    hidden: *mut bool,
}

/// As C++ has them: of NaN and a number, the first.
#[inline(always)]
fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if a < b { b } else { a }
}
#[inline(always)]
fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

impl<T: Own + Into<f64>> Vectorised for Hide<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let [left, top, right, bottom] = self.best;
        for at in 0..self.count {
            // SAFETY: each list has `count` elements.
            unsafe {
                let [its_left, its_top, its_right, its_bottom] = self.others.map(|side| *side.add(at));
                let width = larger(T::zero(), smaller(right, its_right) - larger(left, its_left));
                let height = larger(T::zero(), smaller(bottom, its_bottom) - larger(top, its_top));
                let shared = width * height;
                let overlap = shared / (self.area + *self.areas.add(at) - shared);
                *self.hidden.add(at) |= overlap.into() > self.threshold;
            }
        }
    }
}
