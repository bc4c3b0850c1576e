//! Average pooling, with fixed and with adaptive windows.

use super::max::store_sums;
use super::strips::{STRIP, Strip, Tap, Window, for_each_strip, for_each_tap};
use super::{Images, for_each_block};
use crate::convert::{Stored, StoredFloat};
use crate::element::Float;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, reserved};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy::Cast;
use crate::match_float;
use crate::resample::adaptive_window;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::{Attrs, View};

/// Windows wider than this are summed along their rows, narrower ones in lanes of outputs.
const WIDE: usize = 8;
/// Pixels of a task that fills planes.
const PLANES: usize = 16 * 1024;
/// Partial sums of a row: fixed, so that every SIMD level adds in one order.
const PARTIAL: usize = 16;

/// Where the windows of one axis begin and end within the image, and how many taps each counts.
struct Axis {
    spans: Vec<(usize, usize)>,
    counts: Vec<usize>,
}

impl Axis {
    fn fixed(window: &Window, axis: usize, input: usize, output: usize, include_padding: bool) -> Self {
        let (padding, mut counts) = (window.padding[axis], reserved(output));
        let spans = (0..output).map(|at| {
            // Measured from the padding's edge.
            let start = at * window.stride[axis];
            let end = (start + window.kernel[axis]).min(input + 2 * padding);
            let clipped = (start.saturating_sub(padding).min(input), end.saturating_sub(padding).min(input));
            counts.push(if include_padding { end.saturating_sub(start) } else { clipped.1.saturating_sub(clipped.0) });
            clipped
        });
        let spans = spans.collected();
        Self { spans, counts }
    }

    fn adaptive(input: usize, output: usize) -> Self {
        let spans: Vec<_> = (0..output)
            .map(|at| adaptive_window(input, output, at))
            .map(|window| (window.start, window.end))
            .collected();
        let counts = spans.iter().map(|(start, end)| end - start).collected();
        Self { spans, counts }
    }
}

/// The windows of a launch and what their sums are divided by.
struct Windows {
    rows: Axis,
    columns: Axis,
    divisor: Option<i64>,
}

impl Windows {
    fn fixed(window: &Window, attrs: &Attrs<'_>, inputs: &Images, outputs: &Images) -> Self {
        let axis = |axis| Axis::fixed(window, axis, inputs.sizes[2 + axis], outputs.sizes[2 + axis], attrs.flag(6));
        let divisor = (attrs.int(7) != 0).then_some(attrs.int(7));
        Self { rows: axis(0), columns: axis(1), divisor }
    }

    fn adaptive(inputs: &Images, outputs: &Images) -> Self {
        let axis = |dim| Axis::adaptive(inputs.sizes[dim], outputs.sizes[dim]);
        Self { rows: axis(2), columns: axis(3), divisor: None }
    }

    /// A window that holds nothing is divided by one: its sum is zero.
    fn divisor<T: Float>(&self, row: usize, column: usize) -> T {
        let count = self.rows.counts[row] * self.columns.counts[column];
        T::from_f64(self.divisor.unwrap_or(count.max(1) as i64) as f64)
    }
}

fn expect_pair<'a>(views: &[View<'a>]) -> Result<(View<'a>, View<'a>, Images, Images)> {
    let &[to, from] = views else {
        return Err(Error::Runtime(format!("expected two operands, got {}", views.len())));
    };
    to.expect_dtype("the result", from.dtype())?;
    let images = (Images::of(&to, "the result")?, Images::of(&from, "the operand")?);
    images.0.expect_batch_of(&images.1, "the result")?;
    Ok((to, from, images.0, images.1))
}

/// `[out, self]`, ints `[kernel, stride, padding (height and width each), count_include_pad,
/// divisor_override (0: none)]`.
pub fn average(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let (out, input, outputs, inputs) = expect_pair(views)?;
    let window = Window::of(attrs, false)?;
    let windows = Windows::fixed(&window, attrs, &inputs, &outputs);
    let along_channels = inputs.channels_are_dense();
    if window.kernel[1] > WIDE && !along_channels {
        return sum_windows(&out, &input, &outputs, &inputs, &windows);
    }
    let level = isa::level();
    let nanoseconds = outputs.numel() * window.kernel[0] * window.kernel[1] / 4;
    match_float!(input.dtype(), S => for_each_strip(&outputs, along_channels, nanoseconds, |strip| {
        let task = AverageStrip::<S> {
            strip,
            window: &window,
            windows: &windows,
            inputs: &inputs,
            input: input.ptr(),
            out: out.ptr::<S>().wrapping_offset(outputs.offset(strip.at)),
            out_lane: strip.lane(&outputs),
        };
        // SAFETY: the strip lies within the output; its taps, within the input.
        unsafe { vectorise_at(level, task) };
    }));
    Ok(())
}

struct AverageStrip<'a, S> {
    strip: Strip,
    window: &'a Window,
    windows: &'a Windows,
    inputs: &'a Images,
    input: *const S,
    out: *mut S,
    out_lane: isize,
}

impl<S: StoredFloat> Vectorised for AverageStrip<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let mut sums = [S::Math::ZERO; STRIP];
        for_each_tap(&self.strip, self.window, self.inputs, |tap| {
            let from = self.input.wrapping_offset(tap.offset);
            // SAFETY: the tap's lanes lie within the input.
            unsafe {
                // Literal strides let the compiler vectorise the usual windows.
                match tap.stride {
                    1 => gather_tap(&mut sums, from, 1, &tap),
                    2 => gather_tap(&mut sums, from, 2, &tap),
                    stride => gather_tap(&mut sums, from, stride, &tap),
                }
            }
        });
        let [_, _, row, column] = self.strip.at;
        for (lane, &sum) in sums[..self.strip.count].iter().enumerate() {
            let column = if self.strip.along_channels { column } else { column + lane };
            let value = sum.div(self.windows.divisor(row, column));
            // SAFETY: the strip lies within the output.
            unsafe { *self.out.offset(lane as isize * self.out_lane) = S::save(value) };
        }
    }
}

#[inline(always)]
unsafe fn gather_tap<S: StoredFloat>(sums: &mut [S::Math; STRIP], from: *const S, stride: isize, tap: &Tap) {
    for (lane, sum) in sums[..tap.to].iter_mut().enumerate().skip(tap.from) {
        // SAFETY: the caller's.
        *sum = sum.add(unsafe { *from.wrapping_offset(lane as isize * stride) }.load());
    }
}

/// `[out, self]`: windows that share the image evenly between the outputs.
pub fn adaptive_average(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let (out, input, outputs, inputs) = expect_pair(views)?;
    if inputs.numel() == 0 && outputs.numel() != 0 {
        return Err(Error::Shape(format!("expected input with non-zero spatial sizes, got {:?}", input.sizes())));
    }
    sum_windows(&out, &input, &outputs, &inputs, &Windows::adaptive(&inputs, &outputs))
}

/// Sums each window along its rows, or along the channels where those are dense.
fn sum_windows(out: &View<'_>, input: &View<'_>, outputs: &Images, inputs: &Images, windows: &Windows) -> Result<()> {
    let level = isa::level();
    let along_channels = inputs.channels_are_dense();
    match_float!(input.dtype(), S => for_each_strip(outputs, along_channels, inputs.numel() / 2, |strip| {
        let task = SumStrip::<S> {
            strip,
            windows,
            inputs,
            input: input.ptr(),
            out: out.ptr::<S>().wrapping_offset(outputs.offset(strip.at)),
            out_lane: strip.lane(outputs),
        };
        // SAFETY: the strip lies within the output; its windows, within the input.
        unsafe { vectorise_at(level, task) };
    }));
    Ok(())
}

struct SumStrip<'a, S> {
    strip: Strip,
    windows: &'a Windows,
    inputs: &'a Images,
    input: *const S,
    out: *mut S,
    out_lane: isize,
}

impl<S: StoredFloat> Vectorised for SumStrip<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let [image, channel, row, column] = self.strip.at;
        let base = self.input.wrapping_offset(self.inputs.offset([image, channel, 0, 0]));
        let [_, _, row_stride, column_stride] = self.inputs.strides;
        let (top, bottom) = self.windows.rows.spans[row];
        if self.strip.along_channels {
            let mut sums = [S::Math::ZERO; STRIP];
            let (left, right) = self.windows.columns.spans[column];
            for y in top..bottom {
                for x in left..right {
                    let pixel = base.wrapping_offset(y as isize * row_stride + x as isize * column_stride);
                    for (lane, sum) in sums[..self.strip.count].iter_mut().enumerate() {
                        // SAFETY: a channel of a pixel of the window; channels are dense here.
                        *sum = sum.add(unsafe { *pixel.add(lane) }.load());
                    }
                }
            }
            for (lane, &sum) in sums[..self.strip.count].iter().enumerate() {
                let value = sum.div(self.windows.divisor(row, column));
                // SAFETY: the strip lies within the output.
                unsafe { *self.out.offset(lane as isize * self.out_lane) = S::save(value) };
            }
            return;
        }
        for lane in 0..self.strip.count {
            let (left, right) = self.windows.columns.spans[column + lane];
            let mut total = S::Math::ZERO;
            for y in top..bottom {
                let from = base.wrapping_offset(y as isize * row_stride + left as isize * column_stride);
                // SAFETY: a row of the window.
                total = total.add(unsafe { sum_row(from, column_stride, right.saturating_sub(left)) });
            }
            let value = total.div(self.windows.divisor(row, column + lane));
            // SAFETY: the strip lies within the output.
            unsafe { *self.out.offset(lane as isize * self.out_lane) = S::save(value) };
        }
    }
}

#[inline(always)]
unsafe fn sum_row<S: StoredFloat>(from: *const S, stride: isize, count: usize) -> S::Math {
    let mut total = S::Math::ZERO;
    let mut at = 0;
    // SAFETY: the caller promised `count` elements.
    unsafe {
        if stride == 1 && count >= PARTIAL {
            let mut sums = [S::Math::ZERO; PARTIAL];
            while at + PARTIAL <= count {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add((*from.add(at + lane)).load());
                }
                at += PARTIAL;
            }
            total = sums.into_iter().fold(total, Value::add);
        }
        while at < count {
            total = total.add((*from.offset(at as isize * stride)).load());
            at += 1;
        }
    }
    total
}

/// `[grad_in, grad_out]`, ints as [`average`]'s.
pub fn average_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let (grad_in, grad_out, inputs, outputs) = expect_pair(views)?;
    let windows = Windows::fixed(&Window::of(attrs, false)?, attrs, &inputs, &outputs);
    spread_windows(&grad_in, &grad_out, &inputs, &outputs, &windows)
}

/// `[grad_in, grad_out]`.
pub fn adaptive_average_backward(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let (grad_in, grad_out, inputs, outputs) = expect_pair(views)?;
    if outputs.sizes[2..] == [1, 1] && inputs.planes_are_dense() && inputs.numel() > 0 {
        match_float!(grad_in.dtype(), S => fill_planes::<S>(&grad_in, &grad_out, &inputs, &outputs));
        return Ok(());
    }
    spread_windows(&grad_in, &grad_out, &inputs, &outputs, &Windows::adaptive(&inputs, &outputs))
}

/// The gradient of an average over the whole image: one number for each plane.
fn fill_planes<S: StoredFloat>(grad_in: &View<'_>, grad_out: &View<'_>, inputs: &Images, outputs: &Images) {
    let [images, channels, height, width] = inputs.sizes;
    let pixels = height * width;
    let divisor = <S::Math as Floating>::from_f64(pixels as f64);
    threads::parallel_chunks(images * channels, (PLANES / pixels).max(1), inputs.numel() / 8, |planes| {
        for plane in planes {
            let at = [plane / channels, plane % channels, 0, 0];
            // SAFETY: a plane of the gradient, dense and this task's own, and its output.
            unsafe {
                let grad = *grad_out.ptr::<S>().offset(outputs.offset(at));
                let plane = grad_in.ptr::<S>().offset(inputs.offset(at));
                std::slice::from_raw_parts_mut(plane, pixels).fill(S::save(grad.load().div(divisor)));
            }
        }
    });
}

/// Adds each output's share of its gradient to the pixels of its window.
fn spread_windows(
    grad_in: &View<'_>,
    grad_out: &View<'_>,
    inputs: &Images,
    outputs: &Images,
    windows: &Windows,
) -> Result<()> {
    if inputs.numel() == 0 {
        return Ok(());
    }
    let level = isa::level();
    let pixels = inputs.sizes[2] * inputs.sizes[3];
    match_float!(grad_in.dtype(), S => {
        type Math<S> = <S as StoredFloat>::Math;
        let store = Cast::new(<Math<S> as Stored>::DTYPE, <S as Stored>::DTYPE)?;
        for_each_block(inputs, inputs.numel() * 2, |image, channel, channels| {
            let mut sums = filled(pixels * channels, Math::<S>::ZERO);
            let task = Spread::<S> { windows, inputs, outputs, grad: grad_out.ptr(), at: [image, channel], sums: &mut sums };
            // SAFETY: the block's outputs lie within `grad_out`.
            unsafe { vectorise_at(level, task) };
            store_sums(inputs, grad_in, [image, channel], channels, &sums, |count, from, stride, to, to_stride| {
                // SAFETY: a row of the block, within `grad_in`; blocks are disjoint.
                unsafe { (store.run)(level, count, from, stride, to, to_stride) };
            });
        });
    });
    Ok(())
}

struct Spread<'a, S: StoredFloat> {
    windows: &'a Windows,
    inputs: &'a Images,
    outputs: &'a Images,
    grad: *const S,
    at: [usize; 2],
    /// Pixels, then the block's channels.
    sums: &'a mut [S::Math],
}

impl<S: StoredFloat> Vectorised for Spread<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let [_, _, height, width] = self.inputs.sizes;
        let channels = self.sums.len() / (height * width);
        for (row, &(top, bottom)) in self.windows.rows.spans.iter().enumerate() {
            for (column, &(left, right)) in self.windows.columns.spans.iter().enumerate() {
                let divisor = self.windows.divisor(row, column);
                let grad = self.grad.wrapping_offset(self.outputs.offset([self.at[0], self.at[1], row, column]));
                let mut shares = [S::Math::ZERO; super::CHANNELS];
                for (lane, share) in shares[..channels].iter_mut().enumerate() {
                    // SAFETY: a channel of the block's output.
                    *share = unsafe { *grad.offset(lane as isize * self.outputs.strides[1]) }.load().div(divisor);
                }
                for y in top..bottom {
                    let pixels =
                        &mut self.sums[(y * width + left) * channels..(y * width + right.max(left)) * channels];
                    if channels == 1 {
                        pixels.iter_mut().for_each(|sum| *sum = sum.add(shares[0]));
                        continue;
                    }
                    for pixel in pixels.chunks_exact_mut(channels) {
                        for (sum, &share) in pixel.iter_mut().zip(&shares) {
                            *sum = sum.add(share);
                        }
                    }
                }
            }
        }
    }
}
