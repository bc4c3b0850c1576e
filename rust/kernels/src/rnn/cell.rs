//! The cells of LSTM and GRU after their matrix products: gates, activations and state in one pass,
//! and the gradients of it.

use super::gate::{Gate, biases, for_each_row, gates};
use super::steps::{Gru, GruBackward, Lstm, LstmBackward};
use crate::error::{Error, Result};
use crate::match_float;
use crate::view::{Attrs, View};

/// What a gradient's row of saved values holds for each hidden unit of a GRU.
const SAVED: usize = 5;

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
        let step = Lstm::<S, S> {
            hy: Gate::of(hy, 0, hidden),
            cy: Gate::of(cy, 0, hidden),
            activations: gates(activations, hidden),
            input: gates(input, hidden),
            hidden: gates(hidden_gates, hidden),
            cx: Gate::of(cx, 0, hidden),
            biases: biases([input_bias, hidden_bias], hidden),
            next: None,
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
}

/// `[grad_gates, grad_cx, grad_hy?, grad_cy?, cx, cy, activations]`, shapes as `lstm_cell`'s.
pub fn lstm_cell_backward(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grad_gates, grad_cx, grad_hy, grad_cy, cx, cy, activations] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    let [batch, hidden] = state(cx)?;
    let mut operands = Vec::from([
        ("cx", cx, 1),
        ("cy", cy, 1),
        ("the activations", activations, 4),
        ("grad_gates", grad_gates, 4),
        ("grad_cx", grad_cx, 1),
    ]);
    operands.extend(grad_hy.optional().map(|view| ("grad_hy", view, 1)));
    operands.extend(grad_cy.optional().map(|view| ("grad_cy", view, 1)));
    check(batch, hidden, &operands)?;
    match_float!(cx.dtype(), S => {
        let step = LstmBackward::<S, S> {
            grad_gates: gates(grad_gates, hidden),
            factors: None,
            grad_cx: Gate::of(grad_cx, 0, hidden),
            grad_hy: grad_hy.optional().map(|view| Gate::of(view, 0, hidden)),
            carried_hy: None,
            grad_cy: grad_cy.optional().map(|view| Gate::of(view, 0, hidden)),
            cx: Gate::of(cx, 0, hidden),
            cy: Gate::of(cy, 0, hidden),
            activations: gates(activations, hidden),
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
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
        let step = Gru::<S, S> {
            hy: Gate::of(hy, 0, hidden),
            saved: [0, 1, 2, 4].map(|part| Gate::of(saved, part, hidden)),
            saved_hx: Some(Gate::of(saved, 3, hidden)),
            input: gates(input, hidden),
            hidden: gates(hidden_gates, hidden),
            hx: Gate::of(hx, 0, hidden),
            biases: biases([input_bias, hidden_bias], hidden),
            next: None,
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
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
        let step = GruBackward::<S, S> {
            grad_input: gates(grad_input, hidden),
            grad_hidden: gates(grad_hidden, hidden),
            factors: None,
            grad_hx: Gate::of(grad_hx, 0, hidden),
            grad_hy: Some(Gate::of(grad_hy, 0, hidden)),
            carried_hy: None,
            saved: [0, 1, 2, 4].map(|part| Gate::of(saved, part, hidden)),
            hx: Gate::of(saved, 3, hidden),
        };
        for_each_row(batch, hidden, step);
    });
    Ok(())
}
