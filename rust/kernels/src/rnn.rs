//! The cells of LSTM and GRU after their matrix products: gates, activations and state in one pass,
//! and the gradients of it.
//!
//! Gates lie side by side in a row: input, forget, candidate, output for an LSTM; reset, update,
//! candidate for a GRU, as PyTorch packs a layer's weights.

use crate::convert::StoredFloat;
use crate::element::{Element, Float};
use crate::error::{Error, Result};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::match_float;
use crate::threads;
use crate::view::{Attrs, View};

/// Numbers that are computed side by side: more than a loop is unrolled for, so that it is vectorised.
const LANES: usize = 64;
/// Numbers of a task.
const TASK: usize = 4 * 1024;

/// What a gradient's row of saved values holds for each hidden unit of a GRU.
const SAVED: usize = 5;

/// One gate of an operand: rows of hidden units.
#[derive(Clone, Copy)]
struct Gate<S> {
    data: *mut S,
    row: isize,
    unit: isize,
}

impl<S: StoredFloat> Gate<S> {
    /// Gate `index` of the view's; one row for all of the batch where the view has one dimension.
    fn of(view: &View<'_>, index: usize, hidden: usize) -> Self {
        let unit = view.stride(view.rank() - 1);
        let row = if view.rank() == 1 { 0 } else { view.stride(0) };
        Self { data: view.ptr::<S>().wrapping_offset((index * hidden) as isize * unit), row, unit }
    }

    /// # Safety
    /// The gate has `count` units from `first` on in this row.
    #[inline(always)]
    unsafe fn load(&self, row: usize, first: usize, count: usize) -> [S::Math; LANES] {
        let from = self.data.wrapping_offset(row as isize * self.row + first as isize * self.unit);
        // SAFETY: the caller's.
        unsafe {
            if self.unit == 1 && count == LANES {
                return from.cast::<[S; LANES]>().read_unaligned().map(StoredFloat::load);
            }
            let mut values = [S::Math::ZERO; LANES];
            if self.unit == 1 {
                for (at, value) in values[..count].iter_mut().enumerate() {
                    *value = (*from.add(at)).load();
                }
                return values;
            }
            for (at, value) in values[..count].iter_mut().enumerate() {
                *value = (*from.offset(at as isize * self.unit)).load();
            }
            values
        }
    }

    /// # Safety
    /// As [`Gate::load`], for writing.
    #[inline(always)]
    unsafe fn store(&self, row: usize, first: usize, count: usize, values: [S::Math; LANES]) {
        let to = self.data.wrapping_offset(row as isize * self.row + first as isize * self.unit);
        // SAFETY: the caller's.
        unsafe {
            if self.unit == 1 && count == LANES {
                return to.cast::<[S; LANES]>().write_unaligned(values.map(S::save));
            }
            for (at, value) in values.into_iter().enumerate().take(count) {
                *to.offset(at as isize * self.unit) = S::save(value);
            }
        }
    }
}

// SAFETY: addresses; tasks write disjoint rows.
unsafe impl<S> Send for Gate<S> {}
// SAFETY: as above.
unsafe impl<S> Sync for Gate<S> {}

/// All gates of an operand.
fn gates<S: StoredFloat, const COUNT: usize>(view: &View<'_>, hidden: usize) -> [Gate<S>; COUNT] {
    std::array::from_fn(|index| Gate::of(view, index, hidden))
}

/// The same, where the operand was given.
fn given<S: StoredFloat, const COUNT: usize>(view: &View<'_>, hidden: usize) -> Option<[Gate<S>; COUNT]> {
    view.optional().map(|view| gates(view, hidden))
}

/// A computation on some units of a row.
trait Step: Copy + Sync {
    /// # Safety
    /// The operands have these units.
    unsafe fn step(&self, row: usize, first: usize, count: usize);
}

struct Rows<K> {
    step: K,
    rows: std::ops::Range<usize>,
    hidden: usize,
}

impl<K: Step> Vectorised for Rows<K> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        for row in self.rows {
            for first in (0..self.hidden).step_by(LANES) {
                // SAFETY: the caller's.
                unsafe { self.step.step(row, first, LANES.min(self.hidden - first)) };
            }
        }
    }
}

fn for_each_row<K: Step>(batch: usize, hidden: usize, step: K) {
    let level = isa::level();
    threads::parallel_chunks(batch, (TASK / hidden.max(1)).max(1), batch * hidden * 4, |rows| {
        // SAFETY: `check` found every operand to have these rows and units.
        unsafe { vectorise_at(level, Rows { step, rows, hidden }) };
    });
}

/// Refuses operands that are not `[batch, gates * hidden]` of one dtype.
fn check(batch: usize, hidden: usize, operands: &[(&str, &View<'_>, usize)]) -> Result<()> {
    for (name, view, gates) in operands {
        view.expect_dtype(name, operands[0].1.dtype())?;
        view.expect_sizes(name, &[batch, gates * hidden])?;
    }
    Ok(())
}

fn check_bias(hidden: usize, gates: usize, like: &View<'_>, biases: [&View<'_>; 2]) -> Result<()> {
    if biases[0].is_present() != biases[1].is_present() {
        return Err(Error::Runtime("expected both biases or neither".into()));
    }
    for bias in biases.into_iter().filter_map(View::optional) {
        bias.expect_dtype("bias", like.dtype())?;
        bias.expect_sizes("bias", &[gates * hidden])?;
    }
    Ok(())
}

fn state(view: &View<'_>) -> Result<[usize; 2]> {
    view.expect_rank("the state", 2)?;
    Ok([view.size(0), view.size(1)])
}

/// The sum of a gate's parts.
///
/// # Safety
/// The gate and the biases have these units.
#[inline(always)]
unsafe fn total<S: StoredFloat>(
    [input, hidden]: [Gate<S>; 2],
    biases: Option<[Gate<S>; 2]>,
    row: usize,
    first: usize,
    count: usize,
) -> [S::Math; LANES] {
    // SAFETY: the caller's.
    unsafe {
        let (input, hidden) = (input.load(row, first, count), hidden.load(row, first, count));
        let mut sum: [S::Math; LANES] = [S::Math::ZERO; LANES];
        for lane in 0..LANES {
            sum[lane] = input[lane].add(hidden[lane]);
        }
        if let Some([first_bias, second_bias]) = biases {
            let (a, b) = (first_bias.load(row, first, count), second_bias.load(row, first, count));
            for lane in 0..LANES {
                sum[lane] = sum[lane].add(a[lane].add(b[lane]));
            }
        }
        sum
    }
}

/// `[hy, cy, activations, input_gates, hidden_gates, cx, input_bias?, hidden_bias?]`: states are
/// `[batch, hidden]`, gates `[batch, 4 * hidden]`, biases `[4 * hidden]`.
pub fn lstm_cell(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [hy, cy, activations, input, hidden_gates, cx, input_bias, hidden_bias] = views else {
        return Err(Error::Runtime(format!("expected 8 views, got {}", views.len())));
    };
    let [batch, hidden] = state(cx)?;
    check(
        batch,
        hidden,
        &[
            ("input_gates", input, 4),
            ("hidden_gates", hidden_gates, 4),
            ("cx", cx, 1),
            ("hy", hy, 1),
            ("cy", cy, 1),
            ("the activations", activations, 4),
        ],
    )?;
    check_bias(hidden, 4, input, [input_bias, hidden_bias])?;
    match_float!(input.dtype(), S => {
        let step = Lstm::<S> {
            hy: Gate::of(hy, 0, hidden),
            cy: Gate::of(cy, 0, hidden),
            activations: gates(activations, hidden),
            input: gates(input, hidden),
            hidden: gates(hidden_gates, hidden),
            cx: Gate::of(cx, 0, hidden),
            input_bias: given(input_bias, hidden),
            hidden_bias: given(hidden_bias, hidden),
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Lstm<S> {
    hy: Gate<S>,
    cy: Gate<S>,
    activations: [Gate<S>; 4],
    input: [Gate<S>; 4],
    hidden: [Gate<S>; 4],
    cx: Gate<S>,
    input_bias: Option<[Gate<S>; 4]>,
    hidden_bias: Option<[Gate<S>; 4]>,
}

impl<S: StoredFloat> Step for Lstm<S> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe {
            let mut gates = [[S::Math::ZERO; LANES]; 4];
            for (at, gate) in gates.iter_mut().enumerate() {
                let biases = self.input_bias.zip(self.hidden_bias).map(|(a, b)| [a[at], b[at]]);
                *gate = total([self.input[at], self.hidden[at]], biases, row, first, count);
            }
            let cx = self.cx.load(row, first, count);
            let (mut hy, mut cy) = ([S::Math::ZERO; LANES], [S::Math::ZERO; LANES]);
            // A loop for each: together they would need more registers than there are.
            for gate in [0, 1, 3] {
                gates[gate].iter_mut().for_each(|value| *value = value.sigmoid());
            }
            gates[2].iter_mut().for_each(|value| *value = value.tanh());
            for lane in 0..LANES {
                cy[lane] = gates[1][lane].mul(cx[lane]).add(gates[0][lane].mul(gates[2][lane]));
            }
            for lane in 0..LANES {
                hy[lane] = gates[3][lane].mul(cy[lane].tanh());
            }
            for (gate, values) in self.activations.iter().zip(gates) {
                gate.store(row, first, count, values);
            }
            self.cy.store(row, first, count, cy);
            self.hy.store(row, first, count, hy);
        }
    }
}

/// `[grad_gates, grad_cx, grad_hy?, grad_cy?, cx, cy, activations]`, shapes as `lstm_cell`'s.
pub fn lstm_cell_backward(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grad_gates, grad_cx, grad_hy, grad_cy, cx, cy, activations] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    let [batch, hidden] = state(cx)?;
    let mut operands = vec![
        ("cx", cx, 1),
        ("cy", cy, 1),
        ("the activations", activations, 4),
        ("grad_gates", grad_gates, 4),
        ("grad_cx", grad_cx, 1),
    ];
    operands.extend(grad_hy.optional().map(|view| ("grad_hy", view, 1)));
    operands.extend(grad_cy.optional().map(|view| ("grad_cy", view, 1)));
    check(batch, hidden, &operands)?;
    match_float!(cx.dtype(), S => {
        let step = LstmBackward::<S> {
            grad_gates: gates(grad_gates, hidden),
            grad_cx: Gate::of(grad_cx, 0, hidden),
            grad_hy: grad_hy.optional().map(|view| Gate::of(view, 0, hidden)),
            grad_cy: grad_cy.optional().map(|view| Gate::of(view, 0, hidden)),
            cx: Gate::of(cx, 0, hidden),
            cy: Gate::of(cy, 0, hidden),
            activations: gates(activations, hidden),
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct LstmBackward<S> {
    grad_gates: [Gate<S>; 4],
    grad_cx: Gate<S>,
    grad_hy: Option<Gate<S>>,
    grad_cy: Option<Gate<S>>,
    cx: Gate<S>,
    cy: Gate<S>,
    activations: [Gate<S>; 4],
}

impl<S: StoredFloat> Step for LstmBackward<S> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        let zero = [S::Math::ZERO; LANES];
        let one = S::Math::ONE;
        // SAFETY: the caller's.
        unsafe {
            let grad_hy = if let Some(grad) = self.grad_hy { grad.load(row, first, count) } else { zero };
            let grad_cy = if let Some(grad) = self.grad_cy { grad.load(row, first, count) } else { zero };
            let (cx, cy) = (self.cx.load(row, first, count), self.cy.load(row, first, count));
            let mut gates = [zero; 4];
            for (gate, saved) in gates.iter_mut().zip(self.activations) {
                *gate = saved.load(row, first, count);
            }
            let mut grad_cx = zero;
            for lane in 0..LANES {
                let [input, forget, candidate, output] =
                    [gates[0][lane], gates[1][lane], gates[2][lane], gates[3][lane]];
                let tanh = cy[lane].tanh();
                let inner = grad_hy[lane].mul(output).mul(one.sub(tanh.mul(tanh))).add(grad_cy[lane]);
                gates[0][lane] = inner.mul(candidate).mul(one.sub(input)).mul(input);
                gates[1][lane] = inner.mul(cx[lane]).mul(one.sub(forget)).mul(forget);
                gates[2][lane] = inner.mul(input).mul(one.sub(candidate.mul(candidate)));
                gates[3][lane] = grad_hy[lane].mul(tanh).mul(one.sub(output)).mul(output);
                grad_cx[lane] = inner.mul(forget);
            }
            for (gate, values) in self.grad_gates.iter().zip(gates) {
                gate.store(row, first, count, values);
            }
            self.grad_cx.store(row, first, count, grad_cx);
        }
    }
}

/// `[hy, saved, input_gates, hidden_gates, hx, input_bias?, hidden_bias?]`: states are `[batch,
/// hidden]`, gates `[batch, 3 * hidden]`, biases `[3 * hidden]`; saved are, `[batch, 5 * hidden]`,
/// reset, update, candidate, hx and the hidden part of the candidate.
pub fn gru_cell(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [hy, saved, input, hidden_gates, hx, input_bias, hidden_bias] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    let [batch, hidden] = state(hx)?;
    check(
        batch,
        hidden,
        &[
            ("input_gates", input, 3),
            ("hidden_gates", hidden_gates, 3),
            ("hx", hx, 1),
            ("hy", hy, 1),
            ("the saved values", saved, SAVED),
        ],
    )?;
    check_bias(hidden, 3, input, [input_bias, hidden_bias])?;
    match_float!(input.dtype(), S => {
        let step = Gru::<S> {
            hy: Gate::of(hy, 0, hidden),
            saved: gates(saved, hidden),
            input: gates(input, hidden),
            hidden: gates(hidden_gates, hidden),
            hx: Gate::of(hx, 0, hidden),
            input_bias: given(input_bias, hidden),
            hidden_bias: given(hidden_bias, hidden),
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Gru<S> {
    hy: Gate<S>,
    saved: [Gate<S>; SAVED],
    input: [Gate<S>; 3],
    hidden: [Gate<S>; 3],
    hx: Gate<S>,
    input_bias: Option<[Gate<S>; 3]>,
    hidden_bias: Option<[Gate<S>; 3]>,
}

impl<S: StoredFloat> Step for Gru<S> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe {
            let biases = |at: usize| self.input_bias.zip(self.hidden_bias).map(|(a, b)| [a[at], b[at]]);
            let mut reset = total([self.input[0], self.hidden[0]], biases(0), row, first, count);
            let mut update = total([self.input[1], self.hidden[1]], biases(1), row, first, count);
            let mut candidate = self.input[2].load(row, first, count);
            let mut hidden = self.hidden[2].load(row, first, count);
            if let Some([a, b]) = biases(2) {
                let (a, b) = (a.load(row, first, count), b.load(row, first, count));
                for lane in 0..LANES {
                    candidate[lane] = candidate[lane].add(a[lane]);
                    hidden[lane] = hidden[lane].add(b[lane]);
                }
            }
            let hx = self.hx.load(row, first, count);
            let mut hy = [S::Math::ZERO; LANES];
            reset.iter_mut().for_each(|value| *value = value.sigmoid());
            update.iter_mut().for_each(|value| *value = value.sigmoid());
            for lane in 0..LANES {
                candidate[lane] = candidate[lane].add(reset[lane].mul(hidden[lane])).tanh();
                hy[lane] = candidate[lane].add(update[lane].mul(hx[lane].sub(candidate[lane])));
            }
            for (gate, values) in self.saved.iter().zip([reset, update, candidate, hx, hidden]) {
                gate.store(row, first, count, values);
            }
            self.hy.store(row, first, count, hy);
        }
    }
}

/// `[grad_input_gates, grad_hidden_gates, grad_hx, grad_hy, saved]`, shapes as `gru_cell`'s.
pub fn gru_cell_backward(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_hidden, grad_hx, grad_hy, saved] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let [batch, hidden] = state(grad_hy)?;
    check(
        batch,
        hidden,
        &[
            ("grad_hy", grad_hy, 1),
            ("the saved values", saved, SAVED),
            ("grad_input_gates", grad_input, 3),
            ("grad_hidden_gates", grad_hidden, 3),
            ("grad_hx", grad_hx, 1),
        ],
    )?;
    match_float!(grad_hy.dtype(), S => {
        let step = GruBackward::<S> {
            grad_input: gates(grad_input, hidden),
            grad_hidden: gates(grad_hidden, hidden),
            grad_hx: Gate::of(grad_hx, 0, hidden),
            grad_hy: Gate::of(grad_hy, 0, hidden),
            saved: gates(saved, hidden),
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct GruBackward<S> {
    grad_input: [Gate<S>; 3],
    grad_hidden: [Gate<S>; 3],
    grad_hx: Gate<S>,
    grad_hy: Gate<S>,
    saved: [Gate<S>; SAVED],
}

impl<S: StoredFloat> Step for GruBackward<S> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        let zero = [S::Math::ZERO; LANES];
        let one = S::Math::ONE;
        // SAFETY: the caller's.
        unsafe {
            let grad = self.grad_hy.load(row, first, count);
            let mut saved = [zero; SAVED];
            for (values, gate) in saved.iter_mut().zip(self.saved) {
                *values = gate.load(row, first, count);
            }
            let [reset, update, candidate, hx, hidden] = saved;
            let (mut grad_input, mut grad_hx) = ([zero; 3], zero);
            let mut grad_candidate = zero;
            for lane in 0..LANES {
                let away = grad[lane].mul(one.sub(update[lane]));
                let inner = away.mul(one.sub(candidate[lane].mul(candidate[lane])));
                grad_input[0][lane] = inner.mul(hidden[lane]).mul(one.sub(reset[lane])).mul(reset[lane]);
                grad_input[1][lane] = away.mul(hx[lane].sub(candidate[lane])).mul(update[lane]);
                grad_input[2][lane] = inner;
                grad_candidate[lane] = inner.mul(reset[lane]);
                grad_hx[lane] = grad[lane].mul(update[lane]);
            }
            for (gate, values) in self.grad_input.iter().zip(grad_input) {
                gate.store(row, first, count, values);
            }
            for (gate, values) in self.grad_hidden.iter().zip([grad_input[0], grad_input[1], grad_candidate]) {
                gate.store(row, first, count, values);
            }
            self.grad_hx.store(row, first, count, grad_hx);
        }
    }
}
