//! The op table and the one way to reach a kernel.

pub mod flops;
mod kernels;
pub mod row;
mod table;

pub use row::{Entry, Expression, Outputs, Row};
pub use table::{OPS, Op};

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::profile;
use crate::validate;
use crate::view::{Attrs, View};

impl Op {
    /// The op of an id that crossed the bridge.
    pub fn from_id(id: u32) -> Option<&'static Row> {
        OPS.get(id as usize)
    }

    pub fn row(self) -> &'static Row {
        &OPS[self as usize]
    }
}

impl Row {
    /// Whether an element of a pointwise op costs more than it takes to write it and read it again, half a
    /// nanosecond: of the halves and f32, with the widest vectors.
    pub fn is_dear(&self) -> bool {
        /// Operations that vectors of a core of 3 GHz do an element in that time.
        const OPERATIONS: usize = 24;
        match self.entry {
            Entry::Kernel(_) => false,
            Entry::Pointwise(expression) if expression.opaque().is_some() => true,
            Entry::Pointwise(expression) => {
                let trace = expression.trace(DType::F32);
                trace.is_some_and(|trace| trace.has_functions() && trace.cost() > OPERATIONS)
            }
        }
    }

    /// Whether it is this op's.
    pub fn is(&self, op: Op) -> bool {
        std::ptr::eq(self, op.row())
    }
}

/// Runs an op: outputs first in `views`, then inputs; `attrs` in the order of the row's doc.
/// A refusal carries the op's name and its operands' dtypes and shapes.
pub fn launch(row: &Row, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    check(row, views, attrs)?;
    run(row, views, attrs)
}

/// Refuses operands that no kernel may get.
pub fn check(row: &Row, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    validate::operands(row, views, attrs).map_err(|error| refusal(error, row, views))
}

/// The launch that gives a power, where `row` is to raise to one that an op of fewer operations gives: as PyTorch
/// has it, a root, a product, or one over these.
pub fn simpler_power<'a>(
    row: &Row,
    views: &[View<'a>],
    attrs: &Attrs<'_>,
) -> Option<(&'static Row, SmallVec<[View<'a>; 3]>)> {
    if !row.is(Op::pow_scalar) {
        return None;
    }
    let [output, input] = *views else { return None };
    let (compute, scalars) = crate::loops::pointwise::arguments(attrs).ok()?;
    let is_float = compute.is_float();
    let exponent = if is_float { scalars.floats[0] } else { scalars.ints[0] as f64 };
    const OF_FLOATS: [(f64, Op); 5] =
        [(0.5, Op::sqrt), (-0.5, Op::rsqrt), (-1.0, Op::reciprocal), (-2.0, Op::reciprocal_square), (3.0, Op::cube)];
    if exponent == 2.0 {
        return Some((Op::mul.row(), SmallVec::from([output, input, input])));
    }
    let (_, op) = OF_FLOATS.into_iter().find(|&(power, _)| is_float && power == exponent)?;
    Some((op.row(), SmallVec::from_slice(&[output, input])))
}

/// As `launch`, for operands that were checked when their graph was captured.
pub fn run(row: &Row, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    if let Some((row, views)) = simpler_power(row, views, attrs) {
        return run(row, &views, attrs);
    }
    let run = || match row.entry {
        Entry::Kernel(run) => run(views, attrs),
        Entry::Pointwise(expression) => crate::loops::pointwise::launch(expression, views, attrs),
    };
    let done = if profile::is_on() {
        let outputs = || row.outputs.count(attrs).unwrap_or(0);
        profile::timed(row.name, views, run, outputs, |written, read| (row.flops)(written, read, attrs))
    } else {
        run()
    };
    done.map_err(|error| refusal(error, row, views))
}

#[cold]
fn refusal(error: Error, row: &Row, views: &[View<'_>]) -> Error {
    Error::In { source: Box::new(error), context: describe(row, views) }
}

fn describe(row: &Row, views: &[View<'_>]) -> String {
    const SHOWN: usize = 8;
    let mut text = format!("in {}(", row.name);
    for (index, view) in views.iter().take(SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        text.push_str(&format!("{separator}{view:?}"));
    }
    if views.len() > SHOWN {
        text.push_str(&format!(", and {} more", views.len() - SHOWN));
    }
    text.push(')');
    text
}
