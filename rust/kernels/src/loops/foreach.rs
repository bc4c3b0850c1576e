//! A row of the table over lists of tensors, in one launch: what optimizers do to their parameters.
//! Pointwise rows walk all tensors' pieces together; other rows take one tensor after another.

use super::iterate::alike;
use super::pointwise;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, reserved};
use crate::isa;
use crate::ops::row::{Block, Scalars, block_over};
use crate::ops::{Entry, Expression, Op, Outputs};
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task; fixed, so that the thread count never moves a boundary.
const TASK: usize = 32 * 1024;
/// Ints before the row's own.
const HEAD: usize = 4;

/// Results, then the list of each input. Ints: how many results, the row's id, the compute dtype,
/// whether each tensor has a scalar of its own (else all share them), then scalars as integers;
/// floats: the scalars as floats.
pub fn launch(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [count, id, compute, own] = attrs.sizes(0);
    let row = Op::from_id(id as u32).ok_or_else(|| Error::Runtime(format!("unknown op {id}")))?;
    if count == 0 || !views.len().is_multiple_of(count) || row.outputs != Outputs::Count(1) {
        return Err(Error::Runtime(format!("{} over {count} results, with {} tensors", row.name, views.len())));
    }
    let attrs = Attrs { ints: &attrs.ints[HEAD..], floats: attrs.floats };
    match row.entry {
        Entry::Kernel(run) => (0..count).try_for_each(|tensor| {
            let operands: Vec<View<'_>> = views.iter().skip(tensor).step_by(count).copied().collected();
            run(&operands, &attrs)
        }),
        Entry::Pointwise(expression) => {
            let compute = DType::from_code(compute as u8);
            let compute = compute.ok_or_else(|| Error::Runtime("the compute dtype is unknown".into()))?;
            if own != 0 && attrs.floats.len() != count {
                return Err(Error::Runtime(format!("{} scalars for {count} tensors", attrs.floats.len())));
            }
            pointwise_lists(expression, compute, views, count, own != 0, &attrs)
        }
    }
}

fn pointwise_lists(
    expression: &dyn Expression,
    compute: DType,
    views: &[View<'_>],
    count: usize,
    own: bool,
    attrs: &Attrs<'_>,
) -> Result<()> {
    let block = block_over(expression, compute);
    let block = block.filter(|_| compute.is_float() || !expression.divides());
    let Some(block) = block else {
        return Error::dtype(compute);
    };
    let scalars = |tensor: usize| {
        if own {
            Scalars::of(&attrs.ints[tensor..=tensor], &attrs.floats[tensor..=tensor])
        } else {
            Scalars::of(attrs.ints, attrs.floats)
        }
    };
    match (views.len() / count, block.arity) {
        (2, 1) => lists::<2>(&block, views, count, scalars),
        (3, 2) => lists::<3>(&block, views, count, scalars),
        (4, 3) => lists::<4>(&block, views, count, scalars),
        (lists, arity) => Err(Error::Runtime(format!("expected {} lists, got {lists}", arity + 1))),
    }
}

fn lists<const OPERANDS: usize>(
    block: &Block,
    views: &[View<'_>],
    count: usize,
    scalars: impl Fn(usize) -> Scalars + Sync,
) -> Result<()> {
    let operands =
        |tensor: usize| -> [&View<'_>; OPERANDS] { std::array::from_fn(|list| &views[list * count + tensor]) };
    for tensor in 0..count {
        let [result, inputs @ ..] = &operands(tensor)[..] else { continue };
        if let Some(other) = inputs.iter().find(|input| input.sizes() != result.sizes()) {
            let (sizes, wanted) = (other.sizes(), result.sizes());
            return Err(Error::Shape(format!("tensor {tensor}: an input of {sizes:?} for a result of {wanted:?}")));
        }
    }
    let mut pieces = reserved(count);
    let mut total = 0;
    for tensor in 0..count {
        let operands = operands(tensor);
        if !alike(&operands) {
            pointwise::run(block, &scalars(tensor), operands)?;
            continue;
        }
        let numel = operands[0].numel();
        total += numel;
        pieces.extend((0..numel).step_by(TASK).map(|start| (tensor, start..numel.min(start + TASK))));
        // Refuses dtypes that cannot be cast before the tasks, which cannot refuse.
        pointwise::linear(block, isa::level(), &scalars(tensor), operands, 0..0)?;
    }
    let level = isa::level();
    threads::parallel(pieces.len(), total, |piece| {
        let (tensor, range) = pieces[piece].clone();
        let done = pointwise::linear(block, level, &scalars(tensor), operands(tensor), range);
        debug_assert!(done.is_ok());
    });
    Ok(())
}
