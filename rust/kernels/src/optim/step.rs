//! The loop under the optimizers: parameters, gradients and states of a list of tensors, walked
//! together in pieces of fixed size.

use crate::convert::StoredFloat;
use crate::element::{Element, Float};
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, reserved};
use crate::index::contiguous_strides;
use crate::isa::{self, Level};
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy;
use crate::loops::iterate::alike;
use crate::match_float;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 16 * 1024;

/// An optimizer's arithmetic for one element, with `STATES` values kept beside the parameter.
pub(super) trait Rule<const STATES: usize>: Sync {
    /// What is the same for a whole tensor, in `T`.
    type Tensor<T: Float>: Copy + Sync;
    fn tensor<T: Float>(&self, tensor: usize) -> Self::Tensor<T>;
    /// The new parameter; `states` are updated in place.
    fn apply<T: Float>(tensor: &Self::Tensor<T>, parameter: T, grad: T, states: &mut [T; STATES]) -> T;
}

/// How gradients are read.
#[derive(Clone, Copy)]
pub(super) struct Grads {
    /// They are divided by it and written back.
    pub scale: Option<f64>,
    pub maximize: bool,
}

/// The operands of a step: `groups` lists of equally many tensors each, one list after another.
pub(super) fn lists<'v, 'a>(views: &'v [View<'a>], groups: usize) -> Result<Vec<&'v [View<'a>]>> {
    let count = views.len() / groups;
    if count * groups != views.len() {
        return Err(Error::Runtime(format!("expected {groups} lists of one length, got {} tensors", views.len())));
    }
    if count == 0 {
        return Ok(filled(groups, &[]));
    }
    let lists: Vec<_> = views.chunks_exact(count).collected();
    for tensor in 0..count {
        let parameter = &lists[0][tensor];
        for list in &lists[1..] {
            list[tensor].expect_dtype("a gradient or state", parameter.dtype())?;
            let sizes: Vec<usize> = parameter.sizes().iter().map(|&size| size as usize).collected();
            list[tensor].expect_sizes("a gradient or state", &sizes)?;
        }
        if !parameter.dtype().is_float() {
            return Error::dtype(parameter.dtype());
        }
    }
    Ok(lists)
}

/// One step. `lists`: parameters, each state, gradients.
pub(super) fn run<R: Rule<STATES>, const STATES: usize>(lists: &[&[View<'_>]], grads: Grads, rule: &R) -> Result<()> {
    let mut pieces = Vec::new();
    let mut total = 0;
    for (tensor, parameter) in lists[0].iter().enumerate() {
        let operands: Vec<View<'_>> = lists.iter().map(|list| list[tensor]).collected();
        if !alike(&operands.iter().collected()) {
            packed::<R, STATES>(&operands, grads, rule, tensor)?;
            continue;
        }
        let numel = parameter.numel();
        total += numel;
        pieces.extend((0..numel).step_by(TASK).map(|start| (tensor, start, TASK.min(numel - start))));
    }
    let level = isa::level();
    threads::parallel(pieces.len(), total * (STATES + 2) / 2, |piece| {
        let (tensor, start, count) = pieces[piece];
        let address = |list: usize| {
            let view = &lists[list][tensor];
            view.bytes().wrapping_add(start * view.dtype().size())
        };
        let states = std::array::from_fn(|state| address(1 + state));
        let operands = Operands { parameter: address(0), grad: address(1 + STATES), states, count };
        // The dtypes were checked to be floats.
        let _ = piece_of::<R, STATES>(level, lists[0][tensor].dtype(), operands, grads, rule, tensor);
    });
    Ok(())
}

/// A tensor whose operands lie differently: stepped in dense copies.
fn packed<R: Rule<STATES>, const STATES: usize>(
    operands: &[View<'_>],
    grads: Grads,
    rule: &R,
    tensor: usize,
) -> Result<()> {
    let strides = contiguous_strides(operands[0].sizes());
    let words = (operands[0].numel() * operands[0].dtype().size()).div_ceil(size_of::<u64>());
    let mut scratch = filled(operands.len(), filled(words, 0u64));
    let mut dense = reserved(operands.len());
    for (buffer, operand) in scratch.iter_mut().zip(operands) {
        // SAFETY: the buffer holds the operand's elements, aligned for each of them.
        let view = unsafe { View::new(buffer.as_mut_ptr().cast(), operand.dtype(), operand.sizes(), &strides) };
        copy::launch(&[view, *operand], &Attrs::default())?;
        dense.push(view);
    }
    let states = std::array::from_fn(|state| dense[1 + state].bytes());
    let pointers =
        Operands { parameter: dense[0].bytes(), grad: dense[1 + STATES].bytes(), states, count: operands[0].numel() };
    piece_of::<R, STATES>(isa::level(), operands[0].dtype(), pointers, grads, rule, tensor)?;
    for (at, (operand, view)) in operands.iter().zip(&dense).enumerate() {
        if at != 1 + STATES || grads.scale.is_some() {
            copy::launch(&[*operand, *view], &Attrs::default())?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Operands<const STATES: usize> {
    parameter: *mut u8,
    grad: *mut u8,
    states: [*mut u8; STATES],
    count: usize,
}

fn piece_of<R: Rule<STATES>, const STATES: usize>(
    level: Level,
    dtype: crate::dtype::DType,
    operands: Operands<STATES>,
    grads: Grads,
    rule: &R,
    tensor: usize,
) -> Result<()> {
    struct Piece<R: Rule<STATES>, S: StoredFloat, const STATES: usize> {
        operands: Operands<STATES>,
        tensor: R::Tensor<S::Math>,
        scale: Option<S::Math>,
        sign: S::Math,
    }
    impl<R: Rule<STATES>, S: StoredFloat, const STATES: usize> Vectorised for Piece<R, S, STATES> {
        type Output = ();
        #[inline(always)]
        unsafe fn run(self) {
            let Self { operands, tensor, scale, sign } = self;
            let parameter = operands.parameter.cast::<S>();
            let grad = operands.grad.cast::<S>();
            let states = operands.states.map(|state| state.cast::<S>());
            for at in 0..operands.count {
                // SAFETY: `at < count`, for which every operand is valid.
                unsafe {
                    let mut gradient = (*grad.add(at)).load();
                    if let Some(scale) = scale {
                        gradient = gradient.div(scale);
                        *grad.add(at) = S::save(gradient);
                    }
                    let mut kept: [S::Math; STATES] = std::array::from_fn(|state| (*states[state].add(at)).load());
                    let updated = R::apply(&tensor, (*parameter.add(at)).load(), gradient.mul(sign), &mut kept);
                    *parameter.add(at) = S::save(updated);
                    for state in 0..STATES {
                        *states[state].add(at) = S::save(kept[state]);
                    }
                }
            }
        }
    }
    match_float!(dtype, S => {
        type Math<S> = <S as StoredFloat>::Math;
        let piece = Piece::<R, S, STATES> {
            operands,
            tensor: rule.tensor(tensor),
            scale: grads.scale.map(|scale| Math::<S>::from_scalar(scale, 0)),
            sign: Math::<S>::from_scalar(if grads.maximize { -1.0 } else { 1.0 }, 0),
        };
        // SAFETY: the piece lies within every operand; pieces are disjoint.
        unsafe { vectorise_at(level, piece) };
    });
    Ok(())
}
