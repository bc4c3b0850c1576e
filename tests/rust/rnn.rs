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

/// A layer's operands: some samples of each step, rows of all steps one after another.
struct Layer {
    gates: usize,
    width: usize,
    counts: Vec<usize>,
    reverse: bool,
    input: Tensor<f64>,
    weight: Tensor<f64>,
    states: [Tensor<f64>; 2],
    biases: Option<[Tensor<f64>; 2]>,
}

impl Layer {
    fn new(gates: usize, width: usize, counts: &[usize], reverse: bool, biased: bool) -> Self {
        let rows = counts.iter().sum();
        let parts = if gates == 3 { 4 } else { gates };
        Self {
            gates,
            width,
            counts: counts.to_vec(),
            reverse,
            input: made(&[rows, gates * width], 1),
            weight: made(&[gates * width, width], 2),
            states: [made(&[counts[0], width], 3), made(&[counts[0], width], 4)],
            biases: biased.then(|| [made(&[parts * width], 5), made(&[parts * width], 6)]),
        }
    }

    fn rows(&self) -> usize {
        self.counts.iter().sum()
    }

    fn ints(&self) -> Vec<i64> {
        let sizes = self.counts.iter().map(|&count| count as i64);
        std::iter::once(i64::from(self.reverse)).chain(sizes).collect()
    }

    /// The output, and the last states, of one number after another.
    fn expected(&self) -> [Vec<f64>; 3] {
        let width = self.width;
        let [mut hidden, mut cell] = self.states.each_ref().map(Tensor::values);
        let mut out = vec![0.0; self.rows() * width];
        let (input, weight) = (self.input.values(), self.weight.values());
        let bias = |which: usize, at: usize| self.biases.as_ref().map_or(0.0, |biases| biases[which].values()[at]);
        let steps: Vec<usize> =
            if self.reverse { (0..self.counts.len()).rev().collect() } else { (0..self.counts.len()).collect() };
        for step in steps {
            let first: usize = self.counts[..step].iter().sum();
            for sample in 0..self.counts[step] {
                let state = hidden[sample * width..][..width].to_vec();
                for unit in 0..width {
                    let recurrent = |gate: usize| -> f64 {
                        (0..width).map(|from| state[from] * weight[(gate * width + unit) * width + from]).sum()
                    };
                    let given = |gate: usize| input[((first + sample) * self.gates + gate) * width + unit];
                    let at = sample * width + unit;
                    if self.gates == 4 {
                        let total = |gate: usize| {
                            let place = gate * width + unit;
                            given(gate) + recurrent(gate) + bias(0, place) + bias(1, place)
                        };
                        cell[at] = sigmoid(total(1)) * cell[at] + sigmoid(total(0)) * total(2).tanh();
                        hidden[at] = sigmoid(total(3)) * cell[at].tanh();
                    } else {
                        let total = |gate: usize| given(gate) + recurrent(gate) + bias(0, gate * width + unit);
                        let inner = recurrent(2) + bias(0, 3 * width + unit);
                        let candidate = (given(2) + bias(0, 2 * width + unit) + sigmoid(total(0)) * inner).tanh();
                        let update = sigmoid(total(1));
                        hidden[at] = (1.0 - update) * candidate + update * state[unit];
                    }
                    out[(first + sample) * width + unit] = hidden[at];
                }
            }
        }
        [out, hidden, cell]
    }

    /// Saved, output and last states of a launch; operands in another layout where they are scattered.
    fn run(&self, scattered: bool) -> [Tensor<f64>; 4] {
        let (rows, width) = (self.rows(), self.width);
        let laid = |tensor: &Tensor<f64>| if scattered { tensor.scattered(2) } else { tensor.clone() };
        let mut saved = zeros(&[rows, if self.gates == 4 { 5 } else { 4 } * width]);
        for (at, value) in self.input.values().into_iter().enumerate() {
            let (row, column) = (at / (self.gates * width), at % (self.gates * width));
            let pitch = saved.sizes[1] as usize;
            saved.data[row * pitch + column] = value;
        }
        let outputs = [saved, zeros(&[rows, width]), zeros(&[self.counts[0], width]), zeros(&[self.counts[0], width])]
            .map(|tensor| laid(&tensor));
        let [saved, out, hy, cy] = outputs.each_ref().map(Tensor::view);
        let weight = laid(&self.weight);
        let states = self.states.each_ref().map(laid);
        let biases = self.biases.as_ref().map(|biases| biases.each_ref().map(laid));
        let [a, b] = biases.as_ref().map_or([View::absent(); 2], |biases| biases.each_ref().map(Tensor::view));
        let [hx, cx] = states.each_ref().map(Tensor::view);
        if self.gates == 4 {
            run(Op::lstm_layer, &[out, hy, cy, saved, weight.view(), hx, cx, a, b], &self.ints(), &[]).unwrap();
        } else {
            run(Op::gru_layer, &[out, hy, saved, weight.view(), hx, a], &self.ints(), &[]).unwrap();
        }
        outputs
    }

    /// The gradients of a weighted sum of output and last states: of the input's gates, of the hidden
    /// gates, and of the first states; and the states that steps began with.
    fn gradients(&self, seeds: [&Tensor<f64>; 3]) -> [Tensor<f64>; 5] {
        let (rows, width) = (self.rows(), self.width);
        let [saved, out, ..] = self.run(false);
        let grads = [
            zeros(&[rows, self.gates * width]),
            zeros(&[rows, self.gates * width]),
            zeros(&[self.counts[0], width]),
            zeros(&[self.counts[0], width]),
            zeros(&[rows, width]),
        ];
        let [input, hidden, grad_hx, grad_cx, previous] = grads.each_ref().map(Tensor::view);
        let [grad_out, grad_hy, grad_cy] = seeds.map(Tensor::view);
        let [hx, cx] = self.states.each_ref().map(Tensor::view);
        let (saved, out, weight) = (saved.view(), out.view(), self.weight.view());
        if self.gates == 4 {
            let views = [input, previous, grad_hx, grad_cx, weight, grad_out, grad_hy, grad_cy, saved, out, hx, cx];
            run(Op::lstm_layer_backward, &views, &self.ints(), &[]).unwrap();
        } else {
            let views = [input, hidden, previous, grad_hx, weight, grad_out, grad_hy, saved, out, hx];
            run(Op::gru_layer_backward, &views, &self.ints(), &[]).unwrap();
        }
        grads
    }
}

const BATCHES: [&[usize]; 6] = [&[1], &[1, 1, 1], &[3, 3], &[5, 4, 4, 1], &[13, 13, 2], &[33, 17, 9, 8]];

#[test]
fn layers() {
    for counts in BATCHES {
        for (width, reverse) in [(1, false), (5, true), (17, false), (70, true)] {
            for gates in [3, 4] {
                for biased in [false, true] {
                    let layer = Layer::new(gates, width, counts, reverse, biased);
                    let expected = layer.expected();
                    at_every_level(|_| {
                        for scattered in [false, true] {
                            let [_, out, hy, cy] = layer.run(scattered);
                            let found = [out, hy, cy];
                            let states = if gates == 4 { 3 } else { 2 };
                            for (found, expected) in found.iter().zip(&expected).take(states) {
                                assert_close(&found.values(), expected, 1e-11, 1e-12);
                            }
                        }
                    });
                }
            }
        }
    }
}

#[test]
fn gradients_of_layers() {
    const STEP: f64 = 1e-6;
    for (counts, reverse) in [(&[3, 3, 2, 1][..], false), (&[3, 3, 2, 1], true), (&[9, 9], false)] {
        for gates in [3, 4] {
            let width = 7;
            let batch = [counts[0], width];
            let seeds = [made(&[counts.iter().sum(), width], 7), made(&batch, 8), made(&batch, 9)];
            let sum = |layer: &Layer| -> f64 {
                let [_, out, hy, cy] = layer.run(false);
                let cell = if gates == 4 { dot(&cy, &seeds[2]) } else { 0.0 };
                dot(&out, &seeds[0]) + dot(&hy, &seeds[1]) + cell
            };
            let moved = |change: &dyn Fn(&mut Layer, f64)| {
                let at = |step: f64| {
                    let mut layer = Layer::new(gates, width, counts, reverse, true);
                    change(&mut layer, step);
                    sum(&layer)
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            };
            let layer = Layer::new(gates, width, counts, reverse, true);
            let by_input: Vec<f64> =
                (0..layer.input.data.len()).map(|at| moved(&|layer, step| layer.input.data[at] += step)).collect();
            let by_state = [0, 1].map(|which: usize| -> Vec<f64> {
                (0..batch[0] * width).map(|at| moved(&|layer, step| layer.states[which].data[at] += step)).collect()
            });
            let by_weight: Vec<f64> =
                (0..layer.weight.data.len()).map(|at| moved(&|layer, step| layer.weight.data[at] += step)).collect();
            at_every_level(|_| {
                let [input, hidden, grad_hx, grad_cx, previous] = layer.gradients(seeds.each_ref());
                assert_close(&input.values(), &by_input, 1e-6, 1e-8);
                assert_close(&grad_hx.values(), &by_state[0], 1e-6, 1e-8);
                if gates == 4 {
                    assert_close(&grad_cx.values(), &by_state[1], 1e-6, 1e-8);
                }
                // A weight's gradient: each step's state with the gradient of the gate that it goes to.
                let (given, previous) = (if gates == 4 { &input } else { &hidden }.values(), previous.values());
                let weight: Vec<f64> = (0..gates * width * width)
                    .map(|at| {
                        let (gate, from) = (at / width, at % width);
                        (0..layer.rows())
                            .map(|row| given[row * gates * width + gate] * previous[row * width + from])
                            .sum()
                    })
                    .collect();
                assert_close(&weight, &by_weight, 1e-6, 1e-8);
            });
        }
    }
}

#[test]
fn layers_of_halves() {
    use half::bf16;
    let layer = Layer::new(4, 24, &[9, 9, 9], false, true);
    let half = |tensor: &Tensor<f64>| Tensor::new(&tensor.sizes, |at| bf16::from_f64(tensor.data[at]));
    let [saved, out, ..] = layer.run(false);
    let given = Layer { input: made(&[27, 96], 1), ..layer };
    let mut rows = Tensor::<bf16>::zeros(&[27, 120]);
    for (at, value) in given.input.values().into_iter().enumerate() {
        rows.data[at / 96 * 120 + at % 96] = bf16::from_f64(value);
    }
    let outputs = [Tensor::<bf16>::zeros(&[27, 24]), Tensor::zeros(&[9, 24]), Tensor::zeros(&[9, 24]), rows];
    let [out_view, hy, cy, saved_view] = outputs.each_ref().map(Tensor::view);
    let [weight, hx, cx] = [&given.weight, &given.states[0], &given.states[1]].map(half);
    let biases = given.biases.as_ref().unwrap().each_ref().map(half);
    let [a, b] = biases.each_ref().map(Tensor::view);
    let views = [out_view, hy, cy, saved_view, weight.view(), hx.view(), cx.view(), a, b];
    run(Op::lstm_layer, &views, &given.ints(), &[]).unwrap();
    let widened = |tensor: &Tensor<bf16>| tensor.values().iter().map(|value| value.to_f64()).collect::<Vec<_>>();
    assert_close(&widened(&outputs[0]), &out.values(), 0.05, 0.02);

    // The way back, from the same.
    let seeds = [made(&[27, 24], 7), made(&[9, 24], 8), made(&[9, 24], 9)];
    let expected = given.gradients(seeds.each_ref());
    let [grad_out, grad_hy, grad_cy] = seeds.each_ref().map(half);
    let [saved, out] = [half(&saved), half(&out)];
    let grads =
        [Tensor::<bf16>::zeros(&[27, 96]), Tensor::zeros(&[27, 24]), Tensor::zeros(&[9, 24]), Tensor::zeros(&[9, 24])];
    let [gates, previous, grad_hx, grad_cx] = grads.each_ref().map(Tensor::view);
    let seeds = [grad_out.view(), grad_hy.view(), grad_cy.view()];
    let views = [
        gates,
        previous,
        grad_hx,
        grad_cx,
        weight.view(),
        seeds[0],
        seeds[1],
        seeds[2],
        saved.view(),
        out.view(),
        hx.view(),
        cx.view(),
    ];
    run(Op::lstm_layer_backward, &views, &given.ints(), &[]).unwrap();
    assert_close(&widened(&grads[0]), &expected[0].values(), 0.1, 0.05);
    assert_close(&widened(&grads[2]), &expected[2].values(), 0.1, 0.05);
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let layer = Layer::new(4, 3, &[2, 2], false, false);
    let outputs = [zeros(&[4, 3]), zeros(&[2, 3]), zeros(&[2, 3]), zeros(&[4, 15])];
    let [out, hy, cy, saved] = outputs.each_ref().map(Tensor::view);
    let [hx, cx] = layer.states.each_ref().map(Tensor::view);
    let none = View::absent();
    let weight = layer.weight.view();
    let fits = [out, hy, cy, saved, weight, hx, cx, none, none];
    assert!(run(Op::lstm_layer, &fits, &[0, 2, 2], &[]).is_ok());
    for sizes in [&[0, 2][..], &[0, 2, 2, 2], &[0, 1, 2], &[0, 2, 0], &[0, 3, 1], &[]] {
        assert!(run(Op::lstm_layer, &fits, sizes, &[]).is_err(), "{sizes:?}");
    }
    let narrow = zeros(&[4, 12]);
    assert!(run(Op::lstm_layer, &[out, hy, cy, narrow.view(), weight, hx, cx, none, none], &[0, 2, 2], &[]).is_err());
    let turned = zeros(&[3, 12]);
    assert!(run(Op::lstm_layer, &[out, hy, cy, saved, turned.view(), hx, cx, none, none], &[0, 2, 2], &[]).is_err());
}
