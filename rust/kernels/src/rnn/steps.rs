//! What the cells compute for some units of a row.
//!
//! `S` is what operands are stored in, `C` what a layer carries from step to step in: the type of the
//! arithmetic. A single cell's states are operands, so there both are one.

use super::gate::{Gate, LANES, Step};
use crate::convert::StoredFloat;
use crate::value::{Floating, Value};

type Biases<S, const COUNT: usize> = [[Option<Gate<S>>; COUNT]; 2];

/// The sum of a gate's parts and of its biases.
///
/// # Safety
/// The gates and the biases have these units.
#[inline(always)]
unsafe fn total<S: StoredFloat, C: StoredFloat<Math = S::Math>, const COUNT: usize>(
    (input, hidden): (Gate<S>, Gate<C>),
    biases: &Biases<S, COUNT>,
    gate: usize,
    [row, first, count]: [usize; 3],
) -> [S::Math; LANES] {
    // SAFETY: the caller's.
    unsafe {
        let (input, hidden) = (input.load(row, first, count), hidden.load(row, first, count));
        let mut sum: [S::Math; LANES] = [S::Math::ZERO; LANES];
        for lane in 0..LANES {
            sum[lane] = input[lane].add(hidden[lane]);
        }
        match [biases[0][gate], biases[1][gate]] {
            [Some(first_bias), Some(second_bias)] => {
                let (a, b) = (first_bias.load(row, first, count), second_bias.load(row, first, count));
                for lane in 0..LANES {
                    sum[lane] = sum[lane].add(a[lane].add(b[lane]));
                }
                sum
            }
            [one, other] => added::<S>(sum, one.or(other), [row, first, count]),
        }
    }
}

/// # Safety
/// The other gate has these units.
#[inline(always)]
unsafe fn added<S: StoredFloat>(
    mut sum: [S::Math; LANES],
    other: Option<Gate<S>>,
    [row, first, count]: [usize; 3],
) -> [S::Math; LANES] {
    if let Some(other) = other {
        // SAFETY: the caller's.
        let other = unsafe { other.load(row, first, count) };
        for lane in 0..LANES {
            sum[lane] = sum[lane].add(other[lane]);
        }
    }
    sum
}

#[derive(Clone, Copy)]
pub struct Lstm<S, C> {
    pub input: [Gate<S>; 4],
    pub hidden: [Gate<C>; 4],
    pub biases: Biases<S, 4>,
    pub cx: Gate<C>,
    pub activations: [Gate<S>; 4],
    pub hy: Gate<S>,
    pub cy: Gate<S>,
    /// The states, for a layer's next step.
    pub next: Option<[Gate<C>; 2]>,
}

impl<S: StoredFloat, C: StoredFloat<Math = S::Math>> Step for Lstm<S, C> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe {
            let mut gates = [[S::Math::ZERO; LANES]; 4];
            for (at, gate) in gates.iter_mut().enumerate() {
                *gate = total((self.input[at], self.hidden[at]), &self.biases, at, [row, first, count]);
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
            if let Some([next_hy, next_cy]) = self.next {
                next_hy.store(row, first, count, hy);
                next_cy.store(row, first, count, cy);
            }
        }
    }
}

#[derive(Clone, Copy)]
pub struct LstmBackward<S, C> {
    pub grad_hy: Option<Gate<S>>,
    /// What the step after gives beside it.
    pub carried_hy: Option<Gate<C>>,
    pub grad_cy: Option<Gate<C>>,
    pub cx: Gate<S>,
    pub cy: Gate<S>,
    pub activations: [Gate<S>; 4],
    pub grad_gates: [Gate<S>; 4],
    /// The same, for a product in the type of the arithmetic.
    pub factors: Option<[Gate<C>; 4]>,
    pub grad_cx: Gate<C>,
}

impl<S: StoredFloat, C: StoredFloat<Math = S::Math>> Step for LstmBackward<S, C> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        let zero = [S::Math::ZERO; LANES];
        let one = S::Math::ONE;
        // SAFETY: the caller's.
        unsafe {
            let grad_hy = added::<S>(zero, self.grad_hy, [row, first, count]);
            let grad_hy = added::<C>(grad_hy, self.carried_hy, [row, first, count]);
            let grad_cy = added::<C>(zero, self.grad_cy, [row, first, count]);
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
            if let Some(factors) = self.factors {
                for (gate, values) in factors.iter().zip(gates) {
                    gate.store(row, first, count, values);
                }
            }
            self.grad_cx.store(row, first, count, grad_cx);
        }
    }
}

#[derive(Clone, Copy)]
pub struct Gru<S, C> {
    pub input: [Gate<S>; 3],
    pub hidden: [Gate<C>; 3],
    pub biases: Biases<S, 3>,
    pub hx: Gate<C>,
    /// Reset, update, candidate, and the hidden part of the candidate.
    pub saved: [Gate<S>; 4],
    pub saved_hx: Option<Gate<S>>,
    pub hy: Gate<S>,
    /// The state, for a layer's next step.
    pub next: Option<Gate<C>>,
}

impl<S: StoredFloat, C: StoredFloat<Math = S::Math>> Step for Gru<S, C> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe {
            let at = [row, first, count];
            let mut reset = total((self.input[0], self.hidden[0]), &self.biases, 0, at);
            let mut update = total((self.input[1], self.hidden[1]), &self.biases, 1, at);
            let mut candidate = added::<S>(self.input[2].load(row, first, count), self.biases[0][2], at);
            let hidden = added::<S>(self.hidden[2].load(row, first, count), self.biases[1][2], at);
            let hx = self.hx.load(row, first, count);
            let mut hy = [S::Math::ZERO; LANES];
            reset.iter_mut().for_each(|value| *value = value.sigmoid());
            update.iter_mut().for_each(|value| *value = value.sigmoid());
            for lane in 0..LANES {
                candidate[lane] = candidate[lane].add(reset[lane].mul(hidden[lane])).tanh();
                hy[lane] = candidate[lane].add(update[lane].mul(hx[lane].sub(candidate[lane])));
            }
            for (gate, values) in self.saved.iter().zip([reset, update, candidate, hidden]) {
                gate.store(row, first, count, values);
            }
            if let Some(saved_hx) = self.saved_hx {
                saved_hx.store(row, first, count, hx);
            }
            self.hy.store(row, first, count, hy);
            if let Some(next) = self.next {
                next.store(row, first, count, hy);
            }
        }
    }
}

#[derive(Clone, Copy)]
pub struct GruBackward<S, C> {
    pub grad_hy: Option<Gate<S>>,
    /// What the step after gives beside it.
    pub carried_hy: Option<Gate<C>>,
    /// As [`Gru`]'s.
    pub saved: [Gate<S>; 4],
    pub hx: Gate<S>,
    pub grad_input: [Gate<S>; 3],
    pub grad_hidden: [Gate<S>; 3],
    /// The same as `grad_hidden`, for a product in the type of the arithmetic.
    pub factors: Option<[Gate<C>; 3]>,
    /// Without what the hidden gates give.
    pub grad_hx: Gate<C>,
}

impl<S: StoredFloat, C: StoredFloat<Math = S::Math>> Step for GruBackward<S, C> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        let zero = [S::Math::ZERO; LANES];
        let one = S::Math::ONE;
        // SAFETY: the caller's.
        unsafe {
            let grad = added::<S>(zero, self.grad_hy, [row, first, count]);
            let grad = added::<C>(grad, self.carried_hy, [row, first, count]);
            let mut saved = [zero; 4];
            for (values, gate) in saved.iter_mut().zip(self.saved) {
                *values = gate.load(row, first, count);
            }
            let [reset, update, candidate, hidden] = saved;
            let hx = self.hx.load(row, first, count);
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
            let grad_hidden = [grad_input[0], grad_input[1], grad_candidate];
            for at in 0..3 {
                self.grad_input[at].store(row, first, count, grad_input[at]);
                self.grad_hidden[at].store(row, first, count, grad_hidden[at]);
            }
            if let Some(factors) = self.factors {
                for (gate, values) in factors.iter().zip(grad_hidden) {
                    gate.store(row, first, count, values);
                }
            }
            self.grad_hx.store(row, first, count, grad_hx);
        }
    }
}
