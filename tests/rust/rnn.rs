//! The cells of LSTM and GRU against one hidden unit after another, and against finite differences.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

const SHAPES: [[usize; 2]; 5] = [[1, 1], [3, 5], [2, 16], [5, 37], [0, 4]];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn made(sizes: &[usize], seed: u64) -> Tensor<f64> {
    let sizes: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
    Tensor::new(&sizes, |at| noise(seed)(at))
}

fn zeros(sizes: &[usize]) -> Tensor<f64> {
    Tensor::zeros(&sizes.iter().map(|&size| size as i64).collect::<Vec<_>>())
}

struct Case {
    input: Tensor<f64>,
    hidden: Tensor<f64>,
    state: Tensor<f64>,
    biases: Option<[Tensor<f64>; 2]>,
}

impl Case {
    fn new([batch, width]: [usize; 2], gates: usize, biased: bool) -> Self {
        Self {
            input: made(&[batch, gates * width], 1),
            hidden: made(&[batch, gates * width], 2),
            state: made(&[batch, width], 3),
            biases: biased.then(|| [made(&[gates * width], 4), made(&[gates * width], 5)]),
        }
    }

    fn scattered(&self) -> Self {
        Self {
            input: self.input.scattered(2),
            hidden: self.hidden.scattered(3),
            state: self.state.scattered(1),
            biases: self.biases.as_ref().map(|[a, b]| [a.scattered(2), b.scattered(1)]),
        }
    }

    fn bias_views(&self) -> [View<'_>; 2] {
        self.biases.as_ref().map_or([View::absent(); 2], |biases| biases.each_ref().map(Tensor::view))
    }

    /// The two parts of a gate of a unit.
    fn parts(&self, row: usize, unit: usize, gate: usize, gates: usize) -> [f64; 2] {
        let width = self.state.sizes[1] as usize;
        let at = row * gates * width + gate * width + unit;
        let bias =
            |which: usize| self.biases.as_ref().map_or(0.0, |biases| biases[which].values()[gate * width + unit]);
        [self.input.values()[at] + bias(0), self.hidden.values()[at] + bias(1)]
    }
}

fn lstm(case: &Case) -> [Tensor<f64>; 3] {
    let [batch, width] = [case.state.sizes[0] as usize, case.state.sizes[1] as usize];
    let outputs = [zeros(&[batch, width]), zeros(&[batch, width]), zeros(&[batch, 4 * width])];
    let [hy, cy, saved] = outputs.each_ref().map(Tensor::view);
    let [a, b] = case.bias_views();
    run(Op::lstm_cell, &[hy, cy, saved, case.input.view(), case.hidden.view(), case.state.view(), a, b], &[], &[])
        .unwrap();
    outputs
}

fn gru(case: &Case) -> [Tensor<f64>; 2] {
    let [batch, width] = [case.state.sizes[0] as usize, case.state.sizes[1] as usize];
    let outputs = [zeros(&[batch, width]), zeros(&[batch, 5 * width])];
    let [hy, saved] = outputs.each_ref().map(Tensor::view);
    let [a, b] = case.bias_views();
    run(Op::gru_cell, &[hy, saved, case.input.view(), case.hidden.view(), case.state.view(), a, b], &[], &[]).unwrap();
    outputs
}

#[test]
fn cells() {
    for shape in SHAPES {
        for biased in [false, true] {
            at_every_level(|_| {
                for scattered in [false, true] {
                    let case = Case::new(shape, 4, biased);
                    let [hy, cy, _] = lstm(&if scattered { case.scattered() } else { Case::new(shape, 4, biased) });
                    let (mut hidden, mut cell) = (vec![], vec![]);
                    for (at, cx) in case.state.values().into_iter().enumerate() {
                        let gate = |gate: usize| case.parts(at / shape[1], at % shape[1], gate, 4).iter().sum::<f64>();
                        let cy = sigmoid(gate(1)) * cx + sigmoid(gate(0)) * gate(2).tanh();
                        cell.push(cy);
                        hidden.push(sigmoid(gate(3)) * cy.tanh());
                    }
                    assert_close(&hy.values(), &hidden, 1e-12, 1e-13);
                    assert_close(&cy.values(), &cell, 1e-12, 1e-13);

                    let case = Case::new(shape, 3, biased);
                    let [hy, _] = gru(&if scattered { case.scattered() } else { Case::new(shape, 3, biased) });
                    let mut hidden = vec![];
                    for (at, hx) in case.state.values().into_iter().enumerate() {
                        let parts = |gate: usize| case.parts(at / shape[1], at % shape[1], gate, 3);
                        let sum = |gate: usize| parts(gate).iter().sum::<f64>();
                        let [outer, inner] = parts(2);
                        let candidate = (outer + sigmoid(sum(0)) * inner).tanh();
                        let update = sigmoid(sum(1));
                        hidden.push((1.0 - update) * candidate + update * hx);
                    }
                    assert_close(&hy.values(), &hidden, 1e-12, 1e-13);
                }
            });
        }
    }
}

/// How a weighted sum of a cell's results moves with each element of an operand.
fn differences(operand: usize, case: &Case, weighted: impl Fn(&Case) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-6;
    let count = [&case.input, &case.hidden, &case.state][operand].data.len();
    let moved = |at: usize, step: f64| {
        let mut other =
            Case { input: case.input.clone(), hidden: case.hidden.clone(), state: case.state.clone(), biases: None };
        [&mut other.input, &mut other.hidden, &mut other.state][operand].data[at] += step;
        weighted(&other)
    };
    (0..count).map(|at| (moved(at, STEP) - moved(at, -STEP)) / (2.0 * STEP)).collect()
}

fn dot(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    a.values().iter().zip(b.values()).map(|(a, b)| a * b).sum()
}

#[test]
fn gradients() {
    let shape @ [batch, width] = [3, 19];
    let (grad_hy, grad_cy) = (made(&shape, 7), made(&shape, 8));
    let nothing = zeros(&shape);
    let case = Case::new(shape, 4, false);
    for (with_hy, with_cy) in [(true, true), (true, false), (false, true)] {
        let weights = [if with_hy { &grad_hy } else { &nothing }, if with_cy { &grad_cy } else { &nothing }];
        let expected = [0, 2].map(|operand| {
            differences(operand, &case, |case| {
                let [hy, cy, _] = lstm(case);
                dot(&hy, weights[0]) + dot(&cy, weights[1])
            })
        });
        at_every_level(|_| {
            let [_, cy, saved] = lstm(&case);
            let (grads, grad_cx) = (zeros(&[batch, 4 * width]), zeros(&shape));
            let hy_view = if with_hy { grad_hy.view() } else { View::absent() };
            let cy_view = if with_cy { grad_cy.view() } else { View::absent() };
            let views = [grads.view(), grad_cx.view(), hy_view, cy_view, case.state.view(), cy.view(), saved.view()];
            run(Op::lstm_cell_backward, &views, &[], &[]).unwrap();
            assert_close(&grads.values(), &expected[0], 1e-6, 1e-8);
            assert_close(&grad_cx.values(), &expected[1], 1e-6, 1e-8);
        });
    }
    let case = Case::new(shape, 3, false);
    let expected = [0, 1, 2].map(|operand| differences(operand, &case, |case| dot(&gru(case)[0], &grad_hy)));
    at_every_level(|_| {
        let [_, saved] = gru(&case);
        let grads = [zeros(&[batch, 3 * width]), zeros(&[batch, 3 * width]), zeros(&shape)];
        let [input, hidden, state] = grads.each_ref().map(Tensor::view);
        run(Op::gru_cell_backward, &[input, hidden, state, grad_hy.view(), saved.view()], &[], &[]).unwrap();
        for (grad, expected) in grads.iter().zip(&expected) {
            assert_close(&grad.values(), expected, 1e-6, 1e-8);
        }
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let case = Case::new([2, 3], 4, false);
    let out = [zeros(&[2, 3]), zeros(&[2, 3]), zeros(&[2, 12])];
    let wrong = zeros(&[2, 9]);
    let none = View::absent();
    let [hy, cy, saved] = out.each_ref().map(Tensor::view);
    assert!(
        run(Op::lstm_cell, &[hy, cy, saved, wrong.view(), case.hidden.view(), case.state.view(), none, none], &[], &[])
            .is_err()
    );
    let bias = zeros(&[12]);
    let views = [hy, cy, saved, case.input.view(), case.hidden.view(), case.state.view(), bias.view(), none];
    assert!(run(Op::lstm_cell, &views, &[], &[]).is_err());
}
