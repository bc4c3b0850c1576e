//! Fake quantization: numbers rounded to those that an integer, a scale and a zero point can say, for training what is
//! to be quantized; the gradients of both; and the observed range from which they are chosen.
//!
//! The arithmetic is PyTorch's, in the types that it is done in there: which of two integers a number becomes is decided
//! by a rounding.

use smallvec::SmallVec;

use crate::convert::{Stored, StoredFloat};
use crate::dtype::DType;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::iterate::Space;
use crate::match_float;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 16 * 1024;

/// The first and last integer.
type Range = [i64; 2];

/// The only element of a view.
fn single<T: Stored>(name: &str, view: &View<'_>) -> Result<T> {
    view.expect_dtype(name, T::DTYPE)?;
    if view.numel() != 1 {
        return Err(Error::Shape(format!("expected {name} of one element, got {:?}", view.sizes())));
    }
    // SAFETY: one element of this type.
    Ok(unsafe { *view.ptr::<T>() })
}

fn expect_like(name: &str, view: &View<'_>, like: &View<'_>, dtype: DType) -> Result<()> {
    view.expect_dtype(name, dtype)?;
    if view.sizes() == like.sizes() {
        return Ok(());
    }
    Err(Error::Shape(format!("expected {name} of {:?}, got {:?}", like.sizes(), view.sizes())))
}

/// Refuses a zero point that is no integer of the range; of what is repeated, the first is looked at.
fn expect_within(zero_point: &View<'_>, [first, last]: Range) -> Result<()> {
    let dims = zero_point.sizes().iter().zip(zero_point.strides());
    let once = dims.map(|(&size, &stride)| if stride == 0 && size > 1 { 1 } else { size });
    let sizes: SmallVec<[i64; 6]> = SmallVec::from_iter(once);
    let space = Space::new(&sizes, [zero_point.strides()]);
    let stride = space.inner().strides[0];
    let mut within = true;
    space.rows(0, space.numel, |[start], count| {
        for step in 0..count as isize {
            // SAFETY: within the view, whose dtype was checked.
            let zero = unsafe { *zero_point.ptr::<i32>().wrapping_offset(start + step * stride) };
            within &= (first..=last).contains(&zero.into());
        }
    });
    if within {
        return Ok(());
    }
    Err(Error::Runtime("`zero_point` must be between `quant_min` and `quant_max`.".into()))
}

/// A zero point, and how PyTorch quantizes with one of its type.
trait ZeroPoint: Stored {
    /// What `x` becomes, and whether it is in range.
    fn quantize<S: StoredFloat>(self, x: S, scale: f32, range: Range) -> (S, bool);
}

#[inline(always)]
fn clamped(value: f64, [first, last]: Range) -> f64 {
    // NaN becomes the first.
    value.max(first as f64).min(last as f64)
}

#[inline(always)]
fn over<S: StoredFloat>(x: S, scale: f32) -> S::Math {
    S::Math::from_f64(f64::from(1.0 / scale)).mul(x.load())
}

/// One for the whole tensor.
impl ZeroPoint for i64 {
    #[inline(always)]
    fn quantize<S: StoredFloat>(self, x: S, scale: f32, range: Range) -> (S, bool) {
        let rounded = S::Math::from_f64(self as f64).add(over(x, scale).round_even()).to_f64();
        let steps = clamped(rounded, range) as i64 - self;
        let inside = range[0] as f64 <= rounded && rounded <= range[1] as f64;
        (S::from_f32(steps as f32 * scale), inside)
    }
}

/// One for each channel.
impl ZeroPoint for i32 {
    #[inline(always)]
    fn quantize<S: StoredFloat>(self, x: S, scale: f32, range: Range) -> (S, bool) {
        let rounded = S::Math::from_f64(self.into()).add(over(x, scale).round_even()).to_f64();
        let whole = Stored::to_i64(rounded);
        let steps = clamped(whole as f64, range) - f64::from(self);
        (S::from_f64(steps * f64::from(scale)), (range[0]..=range[1]).contains(&whole))
    }
}

/// One for each channel, which need not be whole.
impl ZeroPoint for f32 {
    #[inline(always)]
    fn quantize<S: StoredFloat>(self, x: S, scale: f32, range: Range) -> (S, bool) {
        let moved = S::Math::from_f64(self.into()).add(over(x, scale)).to_f64() as f32;
        let whole = Stored::to_i64(Value::round_even(moved));
        let steps = clamped(whole as f64, range) - f64::from(self);
        (S::from_f64(steps * f64::from(scale)), (range[0]..=range[1]).contains(&whole))
    }
}

/// `[out, mask (bool), self, scale?, zero_point?, enabled?]`; ints `[quant_min, quant_max, by channel, zero_point]`,
/// floats `[scale]`. By channel, scale (f32) and zero point (i32 or f32) are expanded to self's shape; else they have
/// one element (f32; i32, i64 or f32), or are the scalars. Where `enabled` (one i64) is zero, numbers stay as they are.
pub fn fake_quantize(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, mask, input, scale, zero_point, enabled] = views else {
        return Err(Error::Runtime(format!("expected 6 views, got {}", views.len())));
    };
    expect_like("out", out, input, input.dtype())?;
    expect_like("mask", mask, input, DType::Bool)?;
    let range = [attrs.int(0), attrs.int(1)];
    if attrs.flag(2) {
        expect_like("scale", scale, input, DType::F32)?;
        return match zero_point.dtype() {
            DType::I32 => {
                expect_like("zero_point", zero_point, input, DType::I32)?;
                expect_within(zero_point, range)?;
                quantize::<i32>([out, mask, input, scale, zero_point], range)
            }
            _ => {
                expect_like("zero_point", zero_point, input, DType::F32)?;
                quantize::<f32>([out, mask, input, scale, zero_point], range)
            }
        };
    }
    if let Some(enabled) = enabled.optional()
        && single::<i64>("enabled", enabled)? == 0
    {
        crate::loops::copy::launch(&[*out, *input], &Attrs::default())?;
        return crate::loops::fill::fill(&[*mask], &Attrs { ints: &[1], floats: &[1.0] });
    }
    let one_scale = match scale.optional() {
        Some(scale) => single::<f32>("scale", scale)?,
        None => attrs.float(0) as f32,
    };
    let one_zero_point = match zero_point.optional() {
        Some(view) => match view.dtype() {
            DType::I32 => single::<i32>("zero_point", view)?.into(),
            DType::I64 => single::<i64>("zero_point", view)?,
            _ => Stored::to_i64(single::<f32>("zero_point", view)?),
        },
        None => attrs.int(3),
    };
    let strides = [0; 16];
    let repeated = strides.get(..input.rank()).ok_or_else(|| Error::Shape("too many dimensions".into()))?;
    // SAFETY: one element, again and again; nothing is written to it.
    let expanded = |data: *mut u8, dtype| unsafe { View::new(data, dtype, input.sizes(), repeated) };
    let scale = expanded((&raw const one_scale).cast_mut().cast(), DType::F32);
    let zero_point = expanded((&raw const one_zero_point).cast_mut().cast(), DType::I64);
    quantize::<i64>([out, mask, input, &scale, &zero_point], range)
}

fn quantize<Z: ZeroPoint>(views: [&View<'_>; 5], range: Range) -> Result<()> {
    let [out, mask, input, scale, zero_point] = views;
    let space = Space::of(views);
    let (strides, level) = (space.inner().strides, isa::level());
    match_float!(input.dtype(), S => threads::parallel_chunks(space.numel, TASK, space.numel * 2, |part| {
        space.rows(part.start, part.end, |offsets, count| {
            let row = Row::<S, Z> {
                out: out.ptr::<S>().wrapping_offset(offsets[0]),
                mask: mask.ptr::<u8>().wrapping_offset(offsets[1]),
                input: input.ptr::<S>().wrapping_offset(offsets[2]),
                scale: scale.ptr::<f32>().wrapping_offset(offsets[3]),
                zero_point: zero_point.ptr::<Z>().wrapping_offset(offsets[4]),
                strides,
                count,
                range,
            };
            // SAFETY: the row is within the views; tasks write disjoint rows.
            unsafe { vectorise_at(level, row) };
        });
    }));
    Ok(())
}

struct Row<S, Z> {
    out: *mut S,
    mask: *mut u8,
    input: *const S,
    scale: *const f32,
    zero_point: *const Z,
    strides: [isize; 5],
    count: usize,
    range: Range,
}

impl<S: StoredFloat, Z: ZeroPoint> Vectorised for Row<S, Z> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let strides = if self.strides == [1, 1, 1, 0, 0] { [1, 1, 1, 0, 0] } else { self.strides };
        for at in 0..self.count as isize {
            // SAFETY: within the row that the caller promised.
            unsafe {
                let (scale, zero_point) =
                    (*self.scale.offset(at * strides[3]), *self.zero_point.offset(at * strides[4]));
                let (value, inside) = zero_point.quantize(*self.input.offset(at * strides[2]), scale, self.range);
                *self.out.offset(at * strides[0]) = value;
                *self.mask.offset(at * strides[1]) = u8::from(inside);
            }
        }
    }
}

/// `[grad_self, grad_scale, grad_zero_point, grad, self, scale, zero_point]`, f32 of one shape each: what each element
/// gives; ints `[quant_min, quant_max]`, floats `[grad_factor]`.
pub fn fake_quantize_learnable_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let Ok(all) = <&[View<'_>; 7]>::try_from(views) else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    for view in all {
        expect_like("an operand", view, &all[4], DType::F32)?;
    }
    let ([first, last], factor) = ([attrs.int(0), attrs.int(1)], attrs.float(0) as f32);
    let space = Space::of(all.each_ref());
    let strides = space.inner().strides;
    threads::parallel_chunks(space.numel, TASK, space.numel * 4, |part| {
        space.rows(part.start, part.end, |offsets, count| {
            for at in 0..count as isize {
                let place = |view: usize| all[view].ptr::<f32>().wrapping_offset(offsets[view] + at * strides[view]);
                // SAFETY: within the views; tasks write disjoint rows.
                unsafe {
                    let [grad, x, scale, zero_point] = [3, 4, 5, 6].map(|view| *place(view));
                    let inverse = 1.0 / scale;
                    let whole = Stored::to_i64(Value::round_even(zero_point + x * inverse));
                    let from_zero = |whole: i64| (whole as f64 - f64::from(zero_point)) as f32;
                    let clamped = whole.clamp(first, last);
                    let inside = clamped == whole;
                    let edge = grad * from_zero(if whole < first { first } else { last });
                    let within = grad * (from_zero(clamped) * scale - x) * inverse;
                    *place(0) = grad * f32::from(u8::from(inside));
                    *place(1) = if inside { within } else { edge } * factor;
                    *place(2) = if inside { 0.0 } else { -grad * scale * factor };
                }
            }
        });
    });
    Ok(())
}

/// The elements of four views of one dimension and size, as they are read and written one after another.
fn each(views: [&View<'_>; 4], mut body: impl FnMut([isize; 4]) -> Result<()>) -> Result<()> {
    for view in views {
        view.expect_rank("an operand", 1)?;
        view.expect_sizes("an operand", &[views[0].size(0)])?;
    }
    (0..views[0].size(0) as isize).try_for_each(|at| body(views.map(|view| at * view.stride(0))))
}

/// `[running_min, running_max, min, max]`, f32 of one dimension: the running ones move by floats `[averaging_const]` of
/// the way, or all of it where they are infinite.
pub fn moving_range(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [running_min, running_max, low, high] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let all = [running_min, running_max, low, high];
    for view in all {
        view.expect_dtype("an operand", DType::F32)?;
    }
    let part = attrs.float(0) as f32;
    each(all, |offsets| {
        let at = |view: usize| all[view].ptr::<f32>().wrapping_offset(offsets[view]);
        // SAFETY: within the views.
        unsafe {
            for (running, seen) in [(at(0), *at(2)), (at(1), *at(3))] {
                *running = if (*running).is_infinite() { seen } else { *running + part * (seen - *running) };
            }
        }
        Ok(())
    })
}

/// `[scale (f32), zero_point (i32), min (f32), max (f32)]`, of one dimension; ints `[quant_min, quant_max, symmetric]`:
/// what spreads the integers over the range.
pub fn choose_quantization(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [scale, zero_point, low, high] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    zero_point.expect_dtype("zero_point", DType::I32)?;
    for (name, view) in [("scale", scale), ("min", low), ("max", high)] {
        view.expect_dtype(name, DType::F32)?;
    }
    let range = [attrs.int(0) as i32, attrs.int(1) as i32];
    each([scale, zero_point, low, high], |offsets| {
        // SAFETY: within the views.
        unsafe {
            let low = *low.ptr::<f32>().wrapping_offset(offsets[2]);
            let high = *high.ptr::<f32>().wrapping_offset(offsets[3]);
            let (step, zero) = chosen(low, high, range, attrs.flag(2))?;
            *scale.ptr::<f32>().wrapping_offset(offsets[0]) = step as f32;
            *zero_point.ptr::<i32>().wrapping_offset(offsets[1]) = zero;
        }
        Ok(())
    })
}

/// Below it, scales are not used: the inverse of a denormal number of f16 is none of its.
const SMALLEST_SCALE: f32 = 6.1e-5;

/// As FBGEMM chooses a scale and a zero point: zero is one of the numbers that can be said.
fn chosen(low: f32, high: f32, [first, last]: [i32; 2], symmetric: bool) -> Result<(f64, i32)> {
    // Of NaN as well.
    if low.partial_cmp(&high).is_none_or(std::cmp::Ordering::is_gt) {
        return Err(Error::Runtime("In ChooseQuantizationParams, min should be less than or equal to max".into()));
    }
    if first >= last {
        return Err(Error::Runtime("In ChooseQuantizationParams, qmin should be less than qmax".into()));
    }
    let steps = last.wrapping_sub(first);
    let (mut low, mut high) = (low, high);
    if low < 0.0 && high > 0.0 && symmetric {
        let [below, above] = [-(steps / 2 + 1), steps / 2];
        let widest = f64::from((low / below as f32).abs()).max(f64::from((high / above as f32).abs()));
        low = (widest * f64::from(below)) as f32;
        high = (widest * f64::from(above)) as f32;
    }
    low = low.min(0.0);
    high = high.max(0.0);
    let mut scale = (f64::from(high) - f64::from(low)) / f64::from(steps);
    if scale as f32 == 0.0 || (1.0 / scale as f32).is_infinite() {
        scale = 0.1;
    }
    if scale < f64::from(SMALLEST_SCALE) {
        let stretch = SMALLEST_SCALE / scale as f32;
        scale = f64::from(SMALLEST_SCALE);
        if low == 0.0 {
            high = SMALLEST_SCALE * steps as f32;
        } else if high == 0.0 {
            low = -SMALLEST_SCALE * steps as f32;
        } else {
            low *= stretch;
            high *= stretch;
        }
    }
    // From the end whose terms are smaller, so that less is lost to rounding.
    let [from_low, from_high] = [(first, low), (last, high)].map(|(whole, end)| {
        let (whole, end) = (f64::from(whole), f64::from(end) / scale);
        (whole.abs() - end.abs(), whole - end)
    });
    let middle = (f64::from(first) + f64::from(last)) / 2.0;
    let zero = match low < 0.0 && high > 0.0 && symmetric {
        true => middle,
        false if from_low.0 < from_high.0 => from_low.1,
        false => from_high.1,
    };
    let zero = if zero < f64::from(first) {
        first
    } else if zero > f64::from(last) {
        last
    } else {
        Value::round_even(zero) as i32
    };
    Ok((scale, zero))
}
