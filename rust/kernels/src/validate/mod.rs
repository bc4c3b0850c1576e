//! What a launch is checked for before its kernel runs, and so before anything is written: that each
//! view stays within its storage, aligned, and that what is written lies apart from what is read and from
//! itself. [`crate::ops::launch`] calls it for every op. What index tensors hold is checked by their
//! ops, through [`indices`].
//!
//! What overlaps is refused as PyTorch refuses it on the CPU: where it is certain. Views with gaps,
//! whose elements may interleave, pass.

pub mod indices;

use std::ops::Range;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::fallible::reserved;
use crate::ops::{Op, Outputs, Row};
use crate::view::{Attrs, View};

/// Addresses.
type Span = Range<usize>;

/// Checks the operands of a launch: outputs first in `views`.
pub fn operands(row: &Row, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let outputs = match row.outputs {
        Outputs::Count(outputs) => outputs,
        Outputs::FirstInt => return lists(row, views, attrs),
    };
    if outputs > views.len() {
        return Err(too_few(views.len()));
    }
    if outputs == 0 {
        return views.iter().try_for_each(|view| bounds(view).map(drop));
    }
    for (written, output) in views[..outputs].iter().enumerate() {
        let span = written_bounds(output)?;
        for (at, operand) in views[written + 1..].iter().enumerate() {
            let other_span = bounds(operand)?;
            if span.start < other_span.end && other_span.start < span.end {
                pair(row, output, operand, written + 1 + at >= outputs)?;
            }
        }
    }
    Ok(())
}

/// Whether a dimension repeats elements.
#[inline(always)]
fn repeats(view: &View<'_>) -> bool {
    view.sizes().iter().zip(view.strides()).any(|(&size, &stride)| stride == 0 && size > 1)
}

/// As [`bounds`], of what is written: refuses a view that overlaps itself.
#[inline(always)]
fn written_bounds(view: &View<'_>) -> Result<Span> {
    let span = bounds(view)?;
    if !span.is_empty() && repeats(view) { Err(overlaps_itself(view)) } else { Ok(span) }
}

/// The addresses that a view reaches; none where it has no elements. Refuses a view that leaves its
/// storage, sizes and strides that no address holds, and elements that lie across their alignment.
#[inline(always)]
pub fn bounds(view: &View<'_>) -> Result<Span> {
    match reach(view) {
        Some(span) => Ok(span),
        None => nothing_or_refused(view),
    }
}

/// None where the view is out of bounds, not aligned or empty.
#[inline(always)]
fn reach(view: &View<'_>) -> Option<Span> {
    let (first, end) = match (view.sizes(), view.strides()) {
        // Dense tensors come as lines.
        (&[size], [1]) if size > 0 => (0, size),
        (sizes, strides) => elements(sizes, strides)?,
    };
    let bytes = view.dtype().size() as i64;
    let address = view.bytes() as i64;
    let start = address.checked_add(first.checked_mul(bytes)?)? as usize;
    let end = address.checked_add(end.checked_mul(bytes)?)? as usize;
    let (from, room) = view.storage();
    // A tensor of zeros may have a size and no memory.
    let has_memory = start != 0;
    (from <= start && end.wrapping_sub(from) <= room && has_memory && is_aligned(view)).then_some(start..end)
}

/// Whether its elements lie where their type may: of 16 bytes, two numbers of 8.
#[inline(always)]
fn is_aligned(view: &View<'_>) -> bool {
    view.bytes() as usize & (view.dtype().size() - 1) & 7 == 0
}

/// The elements that a view reaches, from its own first one.
fn elements(sizes: &[i64], strides: &[i64]) -> Option<(i64, i64)> {
    let (mut numel, mut first, mut last) = (1i64, 0i64, 0i64);
    for (&size, &stride) in sizes.iter().zip(strides) {
        if size <= 0 {
            return None;
        }
        let reach = (size - 1).checked_mul(stride)?;
        numel = numel.checked_mul(size)?;
        if reach < 0 {
            first = first.checked_add(reach)?;
        } else {
            last = last.checked_add(reach)?;
        }
    }
    Some((first, last.checked_add(1)?))
}

/// An output and another operand whose addresses mix.
#[inline(always)]
fn pair(row: &Row, output: &View<'_>, operand: &View<'_>, is_input: bool) -> Result<()> {
    let in_place = row.in_place && is_input;
    // What an in-place op writes and reads comes as one line twice.
    let is_itself = output.bytes() == operand.bytes()
        && output.dtype() == operand.dtype()
        && output.sizes() == operand.sizes()
        && output.strides() == operand.strides();
    if is_itself && in_place { Ok(()) } else { mixed(row, output, operand, is_input) }
}

#[cold]
fn mixed(row: &Row, output: &View<'_>, operand: &View<'_>, is_input: bool) -> Result<()> {
    let in_place = row.in_place && is_input;
    let moves = is_input && (row.is(Op::copy) || row.is(Op::where_self));
    let same = output.bytes() == operand.bytes() && {
        let dims = |view: &View<'_>| -> SmallVec<[(i64, i64); 6]> {
            let dims = view.sizes().iter().copied().zip(view.strides().iter().copied());
            SmallVec::from_iter(dims.filter(|&(size, _)| size != 1))
        };
        output.dtype().size() == operand.dtype().size() && dims(output) == dims(operand)
    };
    let legal = match same {
        true => in_place,
        false => !(is_dense(output) && is_dense(operand)) || (moves && is_part_of(operand, output)),
    };
    if legal { Ok(()) } else { Err(overlaps(output, operand)) }
}

/// Whether an input is a part of the output, repeated to its size (`x[:] = x[1]`): an op that moves elements writes
/// each element of the part with itself.
fn is_part_of(input: &View<'_>, output: &View<'_>) -> bool {
    if input.dtype() != output.dtype() || input.sizes() != output.sizes() {
        return false;
    }
    let bytes = output.dtype().size() as i64;
    let mut rest = (input.bytes() as i64 - output.bytes() as i64) / bytes;
    let mut repeated = SmallVec::<[(i64, i64); 6]>::new();
    for (&size, (&from, &to)) in output.sizes().iter().zip(input.strides().iter().zip(output.strides())) {
        match size {
            1 => {}
            _ if from == to => {}
            _ if from == 0 => repeated.push((to, size)),
            _ => return false,
        }
    }
    // The output is dense: the part's place along each of its dimensions, from the widest on.
    repeated.sort_unstable_by(|a, b| b.cmp(a));
    for (stride, size) in repeated {
        let place = (rest / stride).clamp(0, size - 1);
        rest -= place * stride;
    }
    rest == 0
}

/// Whether each address between a view's first and last element is an element, once. What a
/// dimension repeats counts once.
fn is_dense(view: &View<'_>) -> bool {
    let mut dims: SmallVec<[(i64, i64); 6]> =
        SmallVec::from_iter(view.strides().iter().copied().zip(view.sizes().iter().copied()));
    dims.retain(|&mut (stride, size)| stride != 0 && size != 1);
    dims.sort_unstable();
    let mut expected = 1;
    for (stride, size) in dims {
        if stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}

/// Lists of tensors, of which `ints[0]` are written. In the order of their addresses, an operand that
/// overlaps any before it overlaps the one that reached furthest.
#[cold]
fn lists(row: &Row, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let outputs = row.outputs.count(attrs).filter(|&count| count <= views.len());
    let outputs = outputs.ok_or_else(|| too_few(views.len()))?;
    let mut spans = reserved(views.len());
    for (at, view) in views.iter().enumerate() {
        let span = if at < outputs { written_bounds(view)? } else { bounds(view)? };
        if !span.is_empty() {
            spans.push((span, at));
        }
    }
    spans.sort_unstable_by_key(|(span, _)| span.start);
    let mut furthest: Option<(Span, usize)> = None;
    for (span, at) in spans {
        if let Some((before, other)) = &furthest {
            let (first, second) = (at.min(*other), at.max(*other));
            if span.start < before.end && first < outputs {
                pair(row, &views[first], &views[second], second >= outputs)?;
            }
            if before.end >= span.end {
                continue;
            }
        }
        furthest = Some((span, at));
    }
    Ok(())
}

#[cold]
fn too_few(operands: usize) -> Error {
    Error::Runtime(format!("{operands} operands are too few"))
}

#[cold]
fn nothing_or_refused(view: &View<'_>) -> Result<Span> {
    let is_empty = view.sizes().contains(&0) && view.sizes().iter().all(|&size| size >= 0);
    if is_empty || !view.is_present() {
        return Ok(0..0);
    }
    let (from, room) = view.storage();
    if !is_aligned(view) {
        let (dtype, bytes) = (view.dtype(), view.dtype().size().min(8));
        let message = format!("the memory of a {dtype} tensor is not aligned to {bytes} bytes: clone() it on the CPU");
        return Err(Error::Runtime(message));
    }
    if view.bytes().is_null() && room > 0 {
        return Err(Error::Shape(format!("the tensor has sizes {:?} and no memory", view.sizes())));
    }
    Err(Error::Shape(format!(
        "sizes {:?}, strides {:?} and itemsize {}, from byte {} on, are out of bounds for storage of size {}",
        view.sizes(),
        view.strides(),
        view.dtype().size(),
        (view.bytes() as usize).wrapping_sub(from) as isize,
        room
    )))
}

#[cold]
fn overlaps_itself(output: &View<'_>) -> Error {
    Error::Shape(format!(
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location. \
         Please clone() the tensor before performing the operation. It is {output:?}"
    ))
}

#[cold]
fn overlaps(output: &View<'_>, input: &View<'_>) -> Error {
    Error::Shape(format!(
        "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory \
         location. Please clone() the tensor before performing the operation. They are {input:?} and {output:?}"
    ))
}
