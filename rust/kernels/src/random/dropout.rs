//! Dropout and its gradient, one pass each.

use super::Stream;
use super::fill::{Address, for_each_block, random_word, through_dense};
use crate::convert::StoredFloat;
use crate::dtype::DType;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::index::contiguous_strides;
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy;
use crate::match_float;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Elements of a task of the backward pass.
const TASK: usize = 32 * 1024;

/// `[out, mask (bool), input]` of one shape, ints `[seed, offset]`, floats `[p]`: each element is
/// kept with probability `1 - p` and then divided by it. Words: 1.
pub fn dropout(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    apply(views, attrs.float(0), Stream::of(attrs)?)
}

impl Draws for Stream {
    fn draw<S: StoredFloat>(&mut self, numel: usize, kept: f64, blocks: &Blocks<S>) {
        let below = (kept * (1u64 << 32) as f64) as u64;
        for_each_block(numel, *self, random_word(), |start, words: &[i32]| {
            blocks.keep(start, words.len(), |at| u64::from(words[at] as u32) < below);
        });
    }
}

/// Where dropout's random numbers come from.
pub(super) trait Draws {
    /// Decides for each of `numel` elements, each kept with the probability `kept`.
    fn draw<S: StoredFloat>(&mut self, numel: usize, kept: f64, blocks: &Blocks<S>);
}

/// Dense operands of dropout, of which a block at a time is written.
pub(super) struct Blocks<S: StoredFloat> {
    out: Address,
    mask: Address,
    input: Address,
    scale: S::Math,
    level: isa::Level,
}

impl<S: StoredFloat> Blocks<S> {
    /// Writes `count` elements from `start` on, of which those that `keep` names by their place in
    /// the block are kept. Blocks must be within the operands, and disjoint where they run at once.
    #[inline(always)]
    pub(super) fn keep(&self, start: usize, count: usize, keep: impl Fn(usize) -> bool) {
        let bytes = start * size_of::<S>();
        let task = Keep::<S, _> {
            count,
            keep,
            out: self.out.at(bytes).cast(),
            mask: self.mask.at(start),
            input: self.input.at(bytes).cast::<S>().cast_const(),
            scale: self.scale,
        };
        // SAFETY: the block is within the dense operands; blocks are disjoint.
        unsafe { vectorise_at(self.level, task) };
    }
}

/// Dropout of `[out, mask, input]`, made dense, by what `draws` decides.
pub(super) fn apply(views: &[View<'_>], p: f64, mut draws: impl Draws) -> Result<()> {
    let [out, mask, input] = expect_masked(views, 1)?;
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::Runtime(format!("dropout probability has to be between 0 and 1, but got {p}")));
    }
    let kept = 1.0 - p;
    let scale = if kept == 0.0 { 0.0 } else { 1.0 / kept };
    with_dense([out, mask], input, |[out, mask], input| {
        match_float!(input.dtype(), S => draws.draw(input.numel(), kept, &Blocks::<S> {
            out: Address(out.bytes()),
            mask: Address(mask.bytes()),
            input: Address(input.bytes()),
            scale: Element::from_scalar(scale, 0),
            level: isa::level(),
        }));
        Ok(())
    })
}

/// `[grad_in, grad, mask (bool)]` of one shape, floats `[scale]`: `grad * mask * scale`.
pub fn dropout_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_in, grad, mask] = expect_masked(views, 2)?;
    let scale = attrs.float(0);
    let space = crate::loops::iterate::Space::of([&grad_in, &grad, &mask]);
    let strides = space.inner().strides;
    let level = isa::level();
    match_float!(grad.dtype(), S => threads::parallel_chunks(space.numel, TASK, space.numel / 2, |range| {
        space.rows(range.start, range.end, |offsets, count| {
            let task = Mask::<S> {
                count,
                to: grad_in.ptr::<S>().wrapping_offset(offsets[0]),
                grad: grad.ptr::<S>().wrapping_offset(offsets[1]).cast_const(),
                mask: mask.bytes().wrapping_offset(offsets[2]).cast_const(),
                strides,
                scale: Element::from_scalar(scale, 0),
            };
            // SAFETY: the row is within the three views; tasks write disjoint rows.
            unsafe { vectorise_at(level, task) };
        });
    }));
    Ok(())
}

pub(super) fn expect_masked<'a>(views: &[View<'a>], mask: usize) -> Result<[View<'a>; 3]> {
    let views: [View<'a>; 3] =
        views.try_into().map_err(|_| Error::Runtime(format!("expected three operands, got {}", views.len())))?;
    for (at, view) in views.iter().enumerate() {
        view.expect_dtype("an operand", if at == mask { DType::Bool } else { views[0].dtype() })?;
        if view.sizes() != views[0].sizes() {
            return Err(Error::Shape(format!("expected one shape, got {:?} and {:?}", views[0].sizes(), view.sizes())));
        }
    }
    Ok(views)
}

/// Runs `body` on dense operands: these, or copies of them.
fn with_dense(
    outputs: [View<'_>; 2],
    input: View<'_>,
    body: impl FnOnce([&View<'_>; 2], &View<'_>) -> Result<()>,
) -> Result<()> {
    let [out, mask] = outputs;
    if !out.is_contiguous() {
        return through_dense(&out, |dense| with_dense([*dense, mask], input, body));
    }
    if !mask.is_contiguous() {
        return through_dense(&mask, |dense| with_dense([out, *dense], input, body));
    }
    if input.is_contiguous() {
        return body([&out, &mask], &input);
    }
    let mut scratch = filled((input.numel() * input.dtype().size()).div_ceil(size_of::<u64>()), 0u64);
    let strides = contiguous_strides(input.sizes());
    // SAFETY: the scratch holds the input's elements, aligned for each of them.
    let dense = unsafe { View::new(scratch.as_mut_ptr().cast(), input.dtype(), input.sizes(), &strides) };
    copy::launch(&[dense, input], &Attrs::default())?;
    body([&out, &mask], &dense)
}

struct Keep<S: StoredFloat, F> {
    count: usize,
    keep: F,
    out: *mut S,
    mask: *mut u8,
    input: *const S,
    scale: S::Math,
}

impl<S: StoredFloat, F: Fn(usize) -> bool> Vectorised for Keep<S, F> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        for at in 0..self.count {
            let keep = (self.keep)(at);
            // SAFETY: an element of the block.
            unsafe {
                let factor = if keep { self.scale } else { S::Math::ZERO };
                *self.out.add(at) = S::save((*self.input.add(at)).load().mul(factor));
                *self.mask.add(at) = u8::from(keep);
            }
        }
    }
}

struct Mask<S: StoredFloat> {
    count: usize,
    to: *mut S,
    grad: *const S,
    mask: *const u8,
    strides: [isize; 3],
    scale: S::Math,
}

impl<S: StoredFloat> Vectorised for Mask<S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // Literal strides where all are one, so that the loop is vectorised.
        let strides = if self.strides == [1; 3] { [1; 3] } else { self.strides };
        for at in 0..self.count as isize {
            // SAFETY: within the row that the caller promised.
            unsafe {
                let factor = if *self.mask.offset(at * strides[2]) != 0 { self.scale } else { S::Math::ZERO };
                let value = (*self.grad.offset(at * strides[1])).load();
                *self.to.offset(at * strides[0]) = S::save(value.mul(factor));
            }
        }
    }
}
