//! How many floating-point operations a launch does, by the class of its op. A row of the table names
//! its rule; one that names none moves elements and counts zero.

use crate::view::{Attrs, View};

/// A rule: of what a launch has written, what it has read, and its scalars.
pub type Flops = fn(written: &[View<'_>], read: &[View<'_>], attrs: &Attrs<'_>) -> u64;

fn numel(view: &View<'_>) -> u64 {
    if view.is_present() { view.numel() as u64 } else { 0 }
}

fn largest(written: &[View<'_>], read: &[View<'_>]) -> u64 {
    written.iter().chain(read).map(numel).max().unwrap_or(0)
}

/// Elements of the last dimensions of `view`, from `dim`.
fn inner(view: &View<'_>, dim: usize) -> u64 {
    view.sizes().get(dim..).map_or(0, |sizes| sizes.iter().map(|&size| size as u64).product())
}

/// Moves elements.
pub fn none(_: &[View<'_>], _: &[View<'_>], _: &Attrs<'_>) -> u64 {
    0
}

/// One an element of the result: pointwise ops.
pub fn element(written: &[View<'_>], _: &[View<'_>], _: &Attrs<'_>) -> u64 {
    written.first().map_or(0, numel)
}

/// One an element of the largest operand: reductions, pooling, losses.
pub fn once(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    largest(written, read)
}

/// Five an element of the largest operand: norms and softmaxes, which take a statistic, shift and scale.
pub fn normalise(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    5 * largest(written, read)
}

/// Four an element written: an optimizer's parameters and state.
pub fn update(written: &[View<'_>], _: &[View<'_>], _: &Attrs<'_>) -> u64 {
    4 * written.iter().map(numel).sum::<u64>()
}

/// `2 m n k`: a matrix product, whose operands come last.
pub fn product(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    let Some(a) = read.len().checked_sub(2).and_then(|at| read.get(at)) else { return 0 };
    2 * written.first().map_or(0, numel) * inner(a, a.rank().saturating_sub(1))
}

/// A product of each row's state with the recurrent weight, which is read first.
pub fn recur(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    let [rows @ .., _] = written[0].sizes() else { return 0 };
    2 * rows.iter().product::<i64>() as u64 * numel(&read[0])
}

/// A multiplication and an addition for each weight under each position of the convolution's output.
fn taps(output: &View<'_>, weight: &View<'_>) -> u64 {
    2 * numel(output) * inner(weight, 1)
}

/// `[out, input, weight, ..]`
pub fn convolve(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    taps(&written[0], &read[1])
}

/// `[grad_input, grad_output, weight, ..]`
pub fn convolve_input(_: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    taps(&read[0], &read[1])
}

/// `[grad_weight, input, grad_output]`
pub fn convolve_weight(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    taps(&read[1], &written[0])
}

/// `2 (d + d')` for each pair of a query and a key it attends to, of `d` elements and values of `d'`.
fn pairs(query: &View<'_>, key: &View<'_>, value: &View<'_>, attrs: &Attrs<'_>) -> u64 {
    let [.., queries, width] = *query.sizes() else { return 0 };
    let [.., keys, _] = *key.sizes() else { return 0 };
    let heads = numel(query).checked_div((queries * width) as u64).unwrap_or(0);
    let attended: i64 =
        if attrs.flag(2) { (1..=queries).map(|position| position.min(keys)).sum() } else { queries * keys };
    let values = value.sizes().last().copied().unwrap_or(0);
    2 * heads * attended as u64 * (width + values) as u64
}

/// Query, key and value are read first.
pub fn attend(_: &[View<'_>], read: &[View<'_>], attrs: &Attrs<'_>) -> u64 {
    pairs(&read[0], &read[1], &read[2], attrs)
}

/// Five products where the forward pass has two. Query, key and value come after the gradient.
pub fn attend_backward(_: &[View<'_>], read: &[View<'_>], attrs: &Attrs<'_>) -> u64 {
    pairs(&read[1], &read[2], &read[3], attrs) * 5 / 2
}

/// A difference, a power and a sum for each element of each pair of rows.
pub fn distance(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    let width = read.last().and_then(|rows| rows.sizes().last()).map_or(0, |&width| width as u64);
    3 * numel(&written[0]) * width
}

/// The same for each pair's gradient; the distances are read last.
pub fn distance_backward(written: &[View<'_>], read: &[View<'_>], _: &Attrs<'_>) -> u64 {
    3 * read.last().map_or(0, numel) * inner(&written[0], written[0].rank().saturating_sub(1))
}
