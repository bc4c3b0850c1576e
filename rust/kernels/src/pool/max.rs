//! Max pooling with the positions of the maxima, and the gradient that flows back to them.

use std::marker::PhantomData;

use super::rows::{self, MaxRows};
use super::strips::{STRIP, Strip, TASK, Tap, Window, for_each_strip, for_each_tap};
use super::{Images, for_each_block};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::index::Arithmetic;
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy::Cast;
use crate::threads;
use crate::validate::indices::Legal;
use crate::value::Value;
use crate::view::{Attrs, View};
use crate::{match_float, match_stored};

/// `[out, indices (i64), self]`, ints `[kernel, stride, padding, dilation]`, (height, width) each.
/// An index is a pixel's number in its plane. The first of equal maxima wins, and the last NaN.
pub fn max(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, indices, input] = views else {
        return Err(Error::Runtime(format!("expected [out, indices, self], got {} operands", views.len())));
    };
    let window = Window::of(attrs, true)?;
    indices.expect_dtype("indices", DType::I64)?;
    out.expect_dtype("out", input.dtype())?;
    if out.sizes() != indices.sizes() {
        return Err(Error::Shape(format!("out {:?} and indices {:?} differ in shape", out.sizes(), indices.sizes())));
    }
    let [outputs, positions, inputs] =
        [Images::of(out, "out")?, Images::of(indices, "indices")?, Images::of(input, "input")?];
    outputs.expect_batch_of(&inputs, "out")?;
    if outputs.numel() == 0 {
        return Ok(());
    }
    let level = isa::level();
    let along_channels = inputs.channels_are_dense();
    let nanoseconds = outputs.numel() * window.kernel[0] * window.kernel[1] / 4;
    if rows::suits(&window, input.dtype(), [&outputs, &positions, &inputs]) {
        let [_, _, height, width] = outputs.sizes;
        let count = outputs.sizes[0] * outputs.sizes[1] * height;
        match_float!(input.dtype(), S => {
            threads::parallel_chunks(count, (TASK / width).max(1), nanoseconds / 4, |rows| {
                let rows = MaxRows {
                    rows,
                    window: &window,
                    out: (out, &outputs),
                    indices: (indices, &positions),
                    input: (input, &inputs),
                };
                // SAFETY: the rows lie within the outputs, their windows within the input.
                unsafe { vectorise_at(level, rows::Of::<S>(rows, PhantomData)) };
            });
        });
        return Ok(());
    }
    match_stored!(input.dtype(), S => for_each_strip(&outputs, along_channels, nanoseconds, |strip| {
        let task = MaxStrip::<S> {
            strip,
            window: &window,
            inputs: &inputs,
            input: input.ptr(),
            out: out.ptr::<S>().wrapping_offset(outputs.offset(strip.at)),
            out_lane: strip.lane(&outputs),
            indices: indices.ptr::<i64>().wrapping_offset(positions.offset(strip.at)),
            indices_lane: strip.lane(&positions),
        };
        // SAFETY: the strip lies within the outputs; its taps, within the input.
        unsafe { vectorise_at(level, task) };
    }));
    Ok(())
}

pub(super) struct MaxStrip<'a, S> {
    pub strip: Strip,
    pub window: &'a Window,
    pub inputs: &'a Images,
    pub input: *const S,
    pub out: *mut S,
    pub out_lane: isize,
    pub indices: *mut i64,
    pub indices_lane: isize,
}

impl<S: Arithmetic> Vectorised for MaxStrip<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's.
        unsafe { self.taps::<STRIP>() };
    }
}

impl<S: Arithmetic> MaxStrip<'_, S> {
    /// # Safety
    /// The strip lies within both outputs, with at most `LANES` lanes; its taps, within the input.
    #[inline(always)]
    pub unsafe fn taps<const LANES: usize>(&self) {
        let mut best = [<S::Math as Value>::LOWEST; LANES];
        // Negative until the lane's first tap.
        let mut position = [-1; LANES];
        for_each_tap(&self.strip, self.window, self.inputs, |tap| {
            let from = self.input.wrapping_offset(tap.offset);
            // SAFETY: the tap's lanes lie within the input.
            unsafe {
                // Literal strides let the compiler vectorise the usual windows.
                match tap.stride {
                    1 => improve(&mut best, &mut position, from, 1, &tap),
                    2 => improve(&mut best, &mut position, from, 2, &tap),
                    stride => improve(&mut best, &mut position, from, stride, &tap),
                }
            }
        });
        for lane in 0..self.strip.count {
            // SAFETY: the strip lies within both outputs.
            unsafe {
                *self.out.offset(lane as isize * self.out_lane) = best[lane].save();
                *self.indices.offset(lane as isize * self.indices_lane) = i64::from(position[lane]);
            }
        }
    }
}

#[inline(always)]
unsafe fn improve<S: Arithmetic, const LANES: usize>(
    best: &mut [S::Math; LANES],
    position: &mut [i32; LANES],
    from: *const S,
    stride: isize,
    tap: &Tap,
) {
    for lane in tap.from..tap.to.min(LANES) {
        // SAFETY: the caller's.
        let value = S::Math::load(unsafe { *from.wrapping_offset(lane as isize * stride) });
        let better = (value > best[lane]) | value.is_nan() | (position[lane] < 0);
        best[lane] = if better { value } else { best[lane] };
        position[lane] = if better { tap.position + lane as i32 * tap.step } else { position[lane] };
    }
}

/// `[grad_in, grad_out, indices (i64)]`: each gradient is added where its maximum was.
pub fn max_backward(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grad_in, grad_out, indices] = views else {
        return Err(Error::Runtime(format!("expected [grad_in, grad_out, indices], got {} operands", views.len())));
    };
    indices.expect_dtype("indices", DType::I64)?;
    grad_out.expect_dtype("grad_output", grad_in.dtype())?;
    if grad_out.sizes() != indices.sizes() {
        return Err(Error::Shape(format!(
            "grad_output {:?} and indices {:?} differ in shape",
            grad_out.sizes(),
            indices.sizes()
        )));
    }
    let inputs = Images::of(grad_in, "grad_input")?;
    let [outputs, positions] = [Images::of(grad_out, "grad_output")?, Images::of(indices, "indices")?];
    outputs.expect_batch_of(&inputs, "grad_output")?;
    if inputs.numel() == 0 {
        return Ok(());
    }
    let level = isa::level();
    let pixels = inputs.sizes[2] * inputs.sizes[3];
    Legal::below(pixels as i64).check(indices, |index| {
        Error::Runtime(format!("found an invalid max index: {index}, outside of {pixels} pixels"))
    })?;
    match_stored!(grad_in.dtype(), S => {
        type Math<S> = <S as Arithmetic>::Math;
        let store = Cast::new(<Math<S> as Stored>::DTYPE, <S as Stored>::DTYPE)?;
        for_each_block(&inputs, inputs.numel() + outputs.numel() * 2, |image, channel, channels| {
            let mut sums = filled(pixels * channels, <Math<S> as Value>::ZERO);
            for row in 0..outputs.sizes[2] {
                let at = [image, channel, row, 0];
                let grads = grad_out.ptr::<S>().wrapping_offset(outputs.offset(at));
                let places = indices.ptr::<i64>().wrapping_offset(positions.offset(at));
                for column in 0..outputs.sizes[3] as isize {
                    for lane in 0..channels {
                        let lane_of = |images: &Images| column * images.strides[3] + lane as isize * images.strides[1];
                        // SAFETY: an output of the block, within both views.
                        let (grad, place) = unsafe {
                            (*grads.wrapping_offset(lane_of(&outputs)), *places.wrapping_offset(lane_of(&positions)))
                        };
                        let sum = &mut sums[place as usize * channels + lane];
                        *sum = Value::add(*sum, Math::<S>::load(grad));
                    }
                }
            }
            store_sums(&inputs, grad_in, [image, channel], channels, &sums, |count, from, stride, to, to_stride| {
                // SAFETY: a row of the block, within `grad_in`; blocks are disjoint.
                unsafe { (store.run)(level, count, from, stride, to, to_stride) };
            });
        });
    });
    Ok(())
}

/// Stores a block's sums (pixels, then channels) by rows: of channels, or of a plane's pixels.
pub(super) fn store_sums<T>(
    inputs: &Images,
    grad_in: &View<'_>,
    [image, channel]: [usize; 2],
    channels: usize,
    sums: &[T],
    store: impl Fn(usize, *const u8, isize, *mut u8, isize),
) {
    let [_, _, height, width] = inputs.sizes;
    let size = grad_in.dtype().size() as isize;
    let address = |at: [usize; 4]| grad_in.bytes().wrapping_offset(inputs.offset(at) * size);
    if channels == 1 && inputs.strides[2] == width as isize * inputs.strides[3] {
        return store(height * width, sums.as_ptr().cast(), 1, address([image, channel, 0, 0]), inputs.strides[3]);
    }
    for row in 0..height {
        if channels == 1 {
            let from = sums[row * width..].as_ptr();
            store(width, from.cast(), 1, address([image, channel, row, 0]), inputs.strides[3]);
            continue;
        }
        for column in 0..width {
            let from = sums[(row * width + column) * channels..].as_ptr();
            store(channels, from.cast(), 1, address([image, channel, row, column]), inputs.strides[1]);
        }
    }
}
