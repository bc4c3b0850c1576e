//! Layers of LSTM and GRU: every step of a sequence, in one launch. The input's part of the gates was
//! computed for all steps at once; what is left for a step is the product of the last state with the
//! recurrent weight, which is packed once, and the cell. Samples do not depend on each other, so a
//! task takes some of them through all steps.

use std::ops::Range;

use super::gate::{Gate, Move, Rows, Step, biases, for_each_row, split};
use super::steps::{Gru, GruBackward, Lstm, LstmBackward};
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fallible::{Collected, reserved};
use crate::isa;
use crate::lanes::{Real, vectorise_at};
use crate::match_float;
use crate::matmul::{Matrix, Packed};
use crate::scratch::Scratch;
use crate::threads;
use crate::view::{Attrs, View};

/// Samples of a task: whole register tiles of the product, more where there are enough.
const SAMPLES: usize = 8;
const MANY: usize = 32;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 32;

/// The steps of a layer.
struct Layer {
    reverse: bool,
    /// Samples of each step.
    counts: Vec<usize>,
    /// Rows before each step's, where they lie one after another.
    firsts: Vec<usize>,
    rows: usize,
    batch: usize,
    hidden: usize,
}

/// A step, and the one that was taken before it: none for samples that begin here.
#[derive(Clone, Copy)]
struct At {
    step: usize,
    before: Option<usize>,
}

impl Layer {
    fn of(attrs: &Attrs<'_>, weight: &View<'_>, hx: &View<'_>, gates: usize) -> Result<Self> {
        hx.expect_rank("hx", 2)?;
        let [batch, hidden] = [hx.size(0), hx.size(1)];
        weight.expect_dtype("weight_hh", hx.dtype())?;
        weight.expect_sizes("weight_hh", &[gates * hidden, hidden])?;
        let Some((&reverse, sizes)) = attrs.ints.split_first() else {
            return Err(Error::Runtime("expected a direction and sizes of batches".into()));
        };
        let falls = sizes.is_sorted_by(|before, after| before >= after);
        if sizes.first().is_some_and(|&first| first != batch as i64) || !falls || sizes.iter().any(|&size| size < 0) {
            return Err(Error::Shape(format!("sizes of batches {sizes:?} do not fit a batch of {batch}")));
        }
        let counts: Vec<usize> = sizes.iter().map(|&size| size as usize).collected();
        let (mut rows, mut firsts) = (0, reserved(counts.len()));
        for count in &counts {
            firsts.push(rows);
            rows += count;
        }
        Ok(Self { reverse: reverse != 0, counts, firsts, rows, batch, hidden })
    }

    /// Refuses operands that have no row of `gates * hidden` for each step and sample.
    fn check_rows(&self, like: &View<'_>, operands: &[(&str, &View<'_>, usize)]) -> Result<()> {
        for (name, view, gates) in operands {
            view.expect_dtype(name, like.dtype())?;
            let width = gates * self.hidden;
            if view.rank() == 3 && self.rows == self.counts.len() * self.batch {
                view.expect_sizes(name, &[self.counts.len(), self.batch, width])?;
            } else {
                view.expect_sizes(name, &[self.rows, width])?;
            }
        }
        Ok(())
    }

    fn check_states(&self, like: &View<'_>, operands: &[(&str, &View<'_>)]) -> Result<()> {
        for (name, view) in operands {
            view.expect_dtype(name, like.dtype())?;
            view.expect_sizes(name, &[self.batch, self.hidden])?;
        }
        Ok(())
    }

    fn check_bias(&self, like: &View<'_>, bias: &View<'_>, gates: usize) -> Result<()> {
        bias.optional().map_or(Ok(()), |bias| {
            bias.expect_dtype("bias", like.dtype())?;
            bias.expect_sizes("bias", &[gates * self.hidden])
        })
    }

    /// The first gate of an operand at a step.
    fn gate<S: StoredFloat>(&self, view: &View<'_>, step: usize) -> Gate<S> {
        let at = if view.rank() == 3 { step } else { self.firsts[step] };
        Gate::of(view, 0, self.hidden).moved(at as isize * view.stride(0))
    }

    fn gates<S: StoredFloat, const COUNT: usize>(&self, view: &View<'_>, step: usize) -> [Gate<S>; COUNT] {
        split(self.gate(view, step), self.hidden)
    }

    /// What a step began with: the operand's rows of the step before, or the initial state.
    fn begun<S: StoredFloat>(&self, view: &View<'_>, initial: &View<'_>, at: At) -> Gate<S> {
        at.before.map_or_else(|| Gate::of(initial, 0, self.hidden), |before| self.gate(view, before))
    }

    /// The step that is taken before one.
    fn before(&self, step: usize) -> Option<usize> {
        if self.reverse { Some(step + 1).filter(|&step| step < self.counts.len()) } else { step.checked_sub(1) }
    }

    /// Calls `body` for parts of the batch, in parallel; `weight` elements are multiplied in a row.
    fn for_each_part(&self, weight: usize, body: impl Fn(Range<usize>) + Sync) {
        let samples = if self.batch >= MANY { 2 * SAMPLES } else { SAMPLES };
        threads::parallel_chunks(self.batch, samples, self.rows * weight / WORK_PER_NANOSECOND, body);
    }

    fn move_states<From: StoredFloat, To: StoredFloat<Math = From::Math>>(&self, from: Gate<From>, to: Gate<To>) {
        for_each_row(self.batch, self.hidden, Move { from, to });
    }

    /// Takes every step: `gates`, as wide as a step's, get the product of `state` with the weight.
    fn forward<S: StoredFloat<Math = T>, T: StoredFloat<Math = T> + Real, K: Step>(
        &self,
        weight: &View<'_>,
        [state, gates]: [Matrix<T>; 2],
        cell: impl Fn(usize) -> K + Sync,
    ) -> Result<()> {
        let level = isa::level();
        let packed = Packed::<T>::new::<S>(level, weight, true)?;
        self.for_each_part(weight.numel(), |part| {
            for at in 0..self.counts.len() {
                let step = if self.reverse { self.counts.len() - 1 - at } else { at };
                let rows = part.start..part.end.min(self.counts[step]);
                if rows.is_empty() {
                    continue;
                }
                // SAFETY: the operands were checked to have these rows; parts are disjoint.
                unsafe {
                    packed.multiply(level, &some(gates, &rows), &some(state, &rows), false);
                    vectorise_at(level, Rows { step: cell(step), rows, hidden: self.hidden });
                }
            }
        });
        Ok(())
    }

    /// Goes back over every step: the product of a step's `factors` with the weight is the gradient of
    /// the state that the step began with, beside what the cell itself left there.
    fn backward<S: StoredFloat<Math = T>, T: StoredFloat<Math = T> + Real, K: Step>(
        &self,
        weight: &View<'_>,
        state: Matrix<T>,
        adds: bool,
        factors: impl Fn(usize) -> Matrix<T> + Sync,
        cell: impl Fn(At) -> (K, Move<S, S>) + Sync,
    ) -> Result<()> {
        let level = isa::level();
        let packed = Packed::<T>::new::<S>(level, weight, false)?;
        self.for_each_part(weight.numel(), |part| {
            for at in 0..self.counts.len() {
                let step = if self.reverse { at } else { self.counts.len() - 1 - at };
                let rows = part.start..part.end.min(self.counts[step]);
                if rows.is_empty() {
                    continue;
                }
                let before = self.before(step);
                let continued = before.map_or(0, |before| self.counts[before]).clamp(rows.start, rows.end);
                for (rows, before) in [(rows.start..continued, before), (continued..rows.end, None)] {
                    if rows.is_empty() {
                        continue;
                    }
                    let (cell, keep) = cell(At { step, before });
                    // SAFETY: the operands were checked to have these rows; parts are disjoint.
                    unsafe {
                        vectorise_at(level, Rows { step: cell, rows: rows.clone(), hidden: self.hidden });
                        vectorise_at(level, Rows { step: keep, rows, hidden: self.hidden });
                    }
                }
                // SAFETY: as above.
                unsafe { packed.multiply(level, &some(state, &rows), &some(factors(step), &rows), adds) };
            }
        });
        Ok(())
    }
}

/// Some rows of a matrix.
fn some<T: Copy>(matrix: Matrix<T>, rows: &Range<usize>) -> Matrix<T> {
    matrix.part(rows.start, 0, rows.len(), matrix.cols)
}

/// What a launch carries from step to step, in the type of the arithmetic: matrices with a row a
/// sample, of so many times the hidden units each.
struct Carried<T, const COUNT: usize> {
    matrices: [Matrix<T>; COUNT],
    _memory: Scratch<T>,
}

impl<T: Element, const COUNT: usize> Carried<T, COUNT> {
    /// They begin with zeros.
    fn new(layer: &Layer, widths: [usize; COUNT]) -> Result<Self> {
        let Layer { batch, hidden, .. } = *layer;
        let count = batch * hidden * widths.iter().sum::<usize>();
        let memory = Scratch::<T>::new(count)?;
        for at in 0..count {
            // SAFETY: the scratch holds this many.
            unsafe { *memory.ptr().add(at) = T::ZERO };
        }
        let mut at = memory.ptr();
        let matrices = widths.map(|width| {
            let matrix = Matrix::dense(at, batch, width * hidden);
            at = at.wrapping_add(batch * width * hidden);
            matrix
        });
        Ok(Self { matrices, _memory: memory })
    }
}

fn gate_of<T: StoredFloat>(matrix: Matrix<T>) -> Gate<T> {
    Gate::dense(matrix.data, matrix.cols)
}

/// Gates as a matrix of the type of the arithmetic: where they lie, if they are stored in it, or else
/// the matrix that a cell writes them to as well.
fn factors<S: StoredFloat<Math = T>, T: StoredFloat>(gate: Gate<S>, own: Matrix<T>) -> Matrix<T> {
    if S::DTYPE == T::DTYPE {
        Matrix { data: gate.data.cast(), row_stride: gate.row, col_stride: gate.unit, ..own }
    } else {
        own
    }
}

/// The gates that a cell writes for [`factors`], where it must.
fn copied<S: StoredFloat<Math = T>, T: StoredFloat, const COUNT: usize>(
    own: Matrix<T>,
    hidden: usize,
) -> Option<[Gate<T>; COUNT]> {
    (S::DTYPE != T::DTYPE).then(|| split(gate_of(own), hidden))
}

fn operands<T>(expected: usize, views: &[View<'_>]) -> Result<T> {
    Err(Error::Runtime(format!("expected {expected} views, got {}", views.len())))
}

/// `[out, hy, cy, saved, weight_hh, hx, cx, input_bias?, hidden_bias?]`; see the op's row.
pub fn lstm_layer(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, hy, cy, saved, weight, hx, cx, input_bias, hidden_bias] = views else { return operands(9, views) };
    let layer = Layer::of(attrs, weight, hx, 4)?;
    layer.check_rows(hx, &[("out", out, 1), ("saved", saved, 5)])?;
    layer.check_states(hx, &[("hy", hy), ("cy", cy), ("cx", cx)])?;
    layer.check_bias(hx, input_bias, 4)?;
    layer.check_bias(hx, hidden_bias, 4)?;
    let hidden = layer.hidden;
    match_float!(hx.dtype(), S => {
        let carried = Carried::<<S as StoredFloat>::Math, 3>::new(&layer, [4, 1, 1])?;
        let [products, state, cell] = carried.matrices;
        let next = [gate_of(state), gate_of(cell)];
        layer.move_states(Gate::<S>::of(hx, 0, hidden), next[0]);
        layer.move_states(Gate::<S>::of(cx, 0, hidden), next[1]);
        layer.forward::<S, _, _>(weight, [state, products], |step| {
            let parts = layer.gates::<S, 5>(saved, step);
            let activations = [parts[0], parts[1], parts[2], parts[3]];
            Lstm::<S, _> {
                input: activations,
                hidden: split(gate_of(products), hidden),
                biases: biases([input_bias, hidden_bias], hidden),
                cx: next[1],
                activations,
                hy: layer.gate(out, step),
                cy: parts[4],
                next: Some(next),
            }
        })?;
        layer.move_states(next[0], Gate::<S>::of(hy, 0, hidden));
        layer.move_states(next[1], Gate::<S>::of(cy, 0, hidden));
    });
    Ok(())
}

/// `[grad_gates, previous, grad_hx, grad_cx, weight_hh, grad_out?, grad_hy?, grad_cy?, saved, out, hx, cx]`;
/// see the op's row.
pub fn lstm_layer_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_gates, previous, grad_hx, grad_cx, weight, grad_out, grad_hy, grad_cy, saved, out, hx, cx] = views else {
        return operands(12, views);
    };
    let layer = Layer::of(attrs, weight, hx, 4)?;
    layer.check_rows(
        hx,
        &[("grad_gates", grad_gates, 4), ("previous", previous, 1), ("saved", saved, 5), ("out", out, 1)],
    )?;
    layer.check_states(hx, &[("grad_hx", grad_hx), ("grad_cx", grad_cx), ("cx", cx)])?;
    if let Some(grad_out) = grad_out.optional() {
        layer.check_rows(hx, &[("grad_out", grad_out, 1)])?;
    }
    for (name, grad) in [("grad_hy", grad_hy), ("grad_cy", grad_cy)] {
        grad.optional().map_or(Ok(()), |grad| layer.check_states(hx, &[(name, grad)]))?;
    }
    let hidden = layer.hidden;
    match_float!(hx.dtype(), S => {
        let carried = Carried::<<S as StoredFloat>::Math, 3>::new(&layer, [4, 1, 1])?;
        let [own, state, cell] = carried.matrices;
        let (state_gate, cell_gate) = (gate_of(state), gate_of(cell));
        for (grad, to) in [(grad_hy, state_gate), (grad_cy, cell_gate)] {
            if let Some(grad) = grad.optional() {
                layer.move_states(Gate::<S>::of(grad, 0, hidden), to);
            }
        }
        layer.backward::<S, _, _>(
            weight,
            state,
            false,
            |step| factors::<S, _>(layer.gate::<S>(grad_gates, step), own),
            |at| {
                let activations = layer.gates(saved, at.step);
                let step = LstmBackward::<S, _> {
                    grad_hy: grad_out.optional().map(|view| layer.gate(view, at.step)),
                    carried_hy: Some(state_gate),
                    grad_cy: Some(cell_gate),
                    cx: at.before.map_or_else(
                        || Gate::of(cx, 0, hidden),
                        |before| layer.gate::<S>(saved, before).at_unit(4 * hidden),
                    ),
                    cy: layer.gate::<S>(saved, at.step).at_unit(4 * hidden),
                    activations,
                    grad_gates: layer.gates(grad_gates, at.step),
                    factors: copied::<S, _, 4>(own, hidden),
                    grad_cx: cell_gate,
                };
                (step, Move { from: layer.begun(out, hx, at), to: layer.gate(previous, at.step) })
            },
        )?;
        layer.move_states(state_gate, Gate::<S>::of(grad_hx, 0, hidden));
        layer.move_states(cell_gate, Gate::<S>::of(grad_cx, 0, hidden));
    });
    Ok(())
}

/// `[out, hy, saved, weight_hh, hx, bias?]`; see the op's row.
pub fn gru_layer(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, hy, saved, weight, hx, bias] = views else { return operands(6, views) };
    let layer = Layer::of(attrs, weight, hx, 3)?;
    layer.check_rows(hx, &[("out", out, 1), ("saved", saved, 4)])?;
    layer.check_states(hx, &[("hy", hy)])?;
    layer.check_bias(hx, bias, 4)?;
    let hidden = layer.hidden;
    match_float!(hx.dtype(), S => {
        let carried = Carried::<<S as StoredFloat>::Math, 2>::new(&layer, [3, 1])?;
        let [products, state] = carried.matrices;
        let next = gate_of(state);
        layer.move_states(Gate::<S>::of(hx, 0, hidden), next);
        layer.forward::<S, _, _>(weight, [state, products], |step| {
            let saved = layer.gates::<S, 4>(saved, step);
            let bias = |part| bias.optional().map(|bias| Gate::of(bias, part, hidden));
            Gru::<S, _> {
                input: [saved[0], saved[1], saved[2]],
                hidden: split(gate_of(products), hidden),
                biases: [[bias(0), bias(1), bias(2)], [None, None, bias(3)]],
                hx: next,
                saved,
                saved_hx: None,
                hy: layer.gate(out, step),
                next: Some(next),
            }
        })?;
        layer.move_states(next, Gate::<S>::of(hy, 0, hidden));
    });
    Ok(())
}

/// `[grad_input_gates, grad_hidden_gates, previous, grad_hx, weight_hh, grad_out?, grad_hy?, saved, out, hx]`;
/// see the op's row.
pub fn gru_layer_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_hidden, previous, grad_hx, weight, grad_out, grad_hy, saved, out, hx] = views else {
        return operands(10, views);
    };
    let layer = Layer::of(attrs, weight, hx, 3)?;
    let gradients = [("grad_input_gates", grad_input, 3), ("grad_hidden_gates", grad_hidden, 3)];
    layer.check_rows(hx, &gradients)?;
    layer.check_rows(hx, &[("previous", previous, 1), ("saved", saved, 4), ("out", out, 1)])?;
    layer.check_states(hx, &[("grad_hx", grad_hx)])?;
    if let Some(grad_out) = grad_out.optional() {
        layer.check_rows(hx, &[("grad_out", grad_out, 1)])?;
    }
    if let Some(grad_hy) = grad_hy.optional() {
        layer.check_states(hx, &[("grad_hy", grad_hy)])?;
    }
    let hidden = layer.hidden;
    match_float!(hx.dtype(), S => {
        let carried = Carried::<<S as StoredFloat>::Math, 2>::new(&layer, [3, 1])?;
        let [own, state] = carried.matrices;
        let state_gate = gate_of(state);
        if let Some(grad_hy) = grad_hy.optional() {
            layer.move_states(Gate::<S>::of(grad_hy, 0, hidden), state_gate);
        }
        layer.backward::<S, _, _>(
            weight,
            state,
            true,
            |step| factors::<S, _>(layer.gate::<S>(grad_hidden, step), own),
            |at| {
                let keep = Move { from: layer.begun(out, hx, at), to: layer.gate(previous, at.step) };
                let step = GruBackward::<S, _> {
                    grad_hy: grad_out.optional().map(|view| layer.gate(view, at.step)),
                    carried_hy: Some(state_gate),
                    saved: layer.gates(saved, at.step),
                    hx: keep.from,
                    grad_input: layer.gates(grad_input, at.step),
                    grad_hidden: layer.gates(grad_hidden, at.step),
                    factors: copied::<S, _, 3>(own, hidden),
                    grad_hx: state_gate,
                };
                (step, keep)
            },
        )?;
        layer.move_states(state_gate, Gate::<S>::of(grad_hx, 0, hidden));
    });
    Ok(())
}
