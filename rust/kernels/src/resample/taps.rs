//! Which inputs each output of a dimension is made of, and with what weights. Positions are
//! computed in the tensor's own arithmetic, as PyTorch computes them, since a rounding decides
//! which neighbour is nearest.

use crate::fallible::{Collected, filled, push};
use crate::lanes::Real;

/// A sparse matrix by rows: an output's taps.
pub struct Taps<T> {
    inputs: usize,
    starts: Vec<usize>,
    indices: Vec<u32>,
    weights: Vec<T>,
}

impl<T: Real> Taps<T> {
    fn from_rows<Row: IntoIterator<Item = (usize, T)>>(inputs: usize, rows: impl Iterator<Item = Row>) -> Self {
        let mut taps = Self { inputs, starts: Vec::from([0]), indices: Vec::new(), weights: Vec::new() };
        for row in rows {
            for (index, weight) in row {
                push(&mut taps.indices, index as u32);
                push(&mut taps.weights, weight);
            }
            push(&mut taps.starts, taps.indices.len());
        }
        taps
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    /// Every output is its own input.
    pub fn is_identity(&self) -> bool {
        self.outputs() == self.inputs
            && self.indices.len() == self.inputs
            && (0..self.inputs).all(|at| self.starts[at] == at && self.indices[at] == at as u32)
            && self.weights.iter().all(|&weight| weight == T::ONE)
    }

    #[inline(always)]
    pub fn row(&self, output: usize) -> (&[u32], &[T]) {
        let range = self.starts[output]..self.starts[output + 1];
        (&self.indices[range.clone()], &self.weights[range])
    }

    pub fn transposed(&self) -> Self {
        let mut rows = filled(self.inputs, Vec::new());
        for output in 0..self.outputs() {
            let (indices, weights) = self.row(output);
            for (&index, &weight) in indices.iter().zip(weights) {
                push(&mut rows[index as usize], (output, weight));
            }
        }
        Self::from_rows(self.outputs(), rows.into_iter())
    }
}

fn number<T: Real>(value: usize) -> T {
    T::from_f64(value as f64)
}

/// Inputs an output: from the scale that was given (zero: none), or from the sizes.
pub fn step<T: Real>(inputs: usize, outputs: usize, align_corners: bool, scale: f64) -> T {
    if align_corners {
        return if outputs > 1 { number::<T>(inputs - 1).div(number(outputs - 1)) } else { T::ZERO };
    }
    if scale > 0.0 { T::from_f64(1.0 / scale) } else { number::<T>(inputs).div(number(outputs)) }
}

/// Where an output's centre lies among the inputs.
fn centre<T: Real>(output: usize, step: T, align_corners: bool) -> T {
    let half = T::from_f64(0.5);
    if align_corners { step.mul(number(output)) } else { step.mul(number::<T>(output).add(half)).sub(half) }
}

/// Whose centre is half a step in (`exact`), or whose start is at the output's. As many inputs as outputs, or half as
/// many, are met one by one or in pairs where PyTorch goes `by_size`, whatever scale was given.
pub fn nearest<T: Real>(inputs: usize, outputs: usize, step: T, exact: bool, by_size: bool) -> Taps<T> {
    let shift = T::from_f64(if exact { 0.5 } else { 0.0 });
    let rows = (0..outputs).map(|output| {
        if by_size && (outputs == inputs || outputs == 2 * inputs) {
            return [(output * inputs / outputs, T::ONE)];
        }
        let at = step.mul(number::<T>(output).add(shift)).floor().to_f64();
        [((at as usize).min(inputs - 1), T::ONE)]
    });
    Taps::from_rows(inputs, rows)
}

/// The input below a position, and how far past it the position is.
fn below<T: Real>(position: T, inputs: usize) -> (usize, T) {
    let floor = position.floor();
    let index = (floor.to_f64().max(0.0) as usize).min(inputs - 1);
    let past = position.sub(number(index));
    (index, past.max(T::ZERO).min(T::ONE))
}

pub fn linear<T: Real>(inputs: usize, outputs: usize, step: T, align_corners: bool) -> Taps<T> {
    let rows = (0..outputs).map(|output| {
        if inputs == outputs {
            return Vec::from([(output, T::ONE)]);
        }
        let (index, past) = below(centre(output, step, align_corners).max(T::ZERO), inputs);
        Vec::from([(index, T::ONE.sub(past)), ((index + 1).min(inputs - 1), past)])
    });
    Taps::from_rows(inputs, rows)
}

/// Cubic convolution (Keys, 1981) with the free parameter `a`.
fn keys<T: Real>(distance: T, a: f64) -> T {
    let (x, a) = (distance.abs().to_f64(), a);
    let value = if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    };
    T::from_f64(value)
}

pub fn cubic<T: Real>(inputs: usize, outputs: usize, step: T, align_corners: bool) -> Taps<T> {
    const A: f64 = -0.75;
    let rows = (0..outputs).map(|output| {
        let position = centre(output, step, align_corners);
        let floor = position.floor();
        let past = position.sub(floor).max(T::ZERO).min(T::ONE);
        (-1i64..=2).map(move |tap| {
            let index = (floor.to_f64() as i64 + tap).clamp(0, inputs as i64 - 1);
            (index as usize, keys(past.sub(T::from_f64(tap as f64)), A))
        })
    });
    Taps::from_rows(inputs, rows)
}

/// What an antialiased interpolation weighs its inputs by.
#[derive(Clone, Copy)]
pub enum Filter {
    Linear,
    Cubic,
    Lanczos,
}

impl Filter {
    fn reach(self) -> f64 {
        match self {
            Self::Linear => 1.0,
            Self::Cubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight<T: Real>(self, distance: T) -> T {
        match self {
            Self::Linear => T::ONE.sub(distance.abs()).max(T::ZERO),
            Self::Cubic => keys(distance, -0.5),
            Self::Lanczos => {
                let sinc = |x: f64| if x == 0.0 { 1.0 } else { x.sin() / x };
                let x = distance.to_f64() * std::f64::consts::PI;
                let inside = distance.abs().to_f64() < 3.0;
                T::from_f64(if inside { sinc(x) * sinc(x / 3.0) } else { 0.0 })
            }
        }
    }
}

pub fn smooth<T: Real>(inputs: usize, outputs: usize, step: T, filter: Filter) -> Taps<T> {
    let half = T::from_f64(0.5);
    let reach = T::from_f64(filter.reach());
    let shrinks = step >= T::ONE;
    let support = if shrinks { reach.mul(step) } else { reach };
    let squeeze = if shrinks { T::ONE.div(step) } else { T::ONE };
    let rows = (0..outputs).map(move |output| {
        let centre = step.mul(number::<T>(output).add(half));
        let first = (centre.sub(support).add(half).to_f64() as i64).max(0);
        let end = (centre.add(support).add(half).to_f64() as i64).min(inputs as i64);
        let mut total = T::ZERO;
        let mut row: Vec<(usize, T)> = (first..end)
            .map(|index| {
                let distance = T::from_f64(index as f64).sub(centre).add(half).mul(squeeze);
                let weight = filter.weight(distance);
                total = total.add(weight);
                (index as usize, weight)
            })
            .collected();
        if total != T::ZERO {
            row.iter_mut().for_each(|(_, weight)| *weight = weight.div(total));
        }
        row
    });
    Taps::from_rows(inputs, rows)
}

pub fn pad<T: Real>(inputs: usize, outputs: usize, before: i64, reflect: bool) -> Taps<T> {
    let last = inputs as i64 - 1;
    let rows = (0..outputs as i64).map(|output| {
        let at = output - before;
        let at = if !reflect {
            at.clamp(0, last)
        } else if at < 0 {
            -at
        } else if at > last {
            2 * last - at
        } else {
            at
        };
        [(at as usize, T::ONE)]
    });
    Taps::from_rows(inputs, rows)
}

/// What the sum of a window is divided by.
#[derive(Clone, Copy)]
pub enum Divisor {
    /// The window's inputs, padding included.
    Padded,
    /// The window's inputs within the tensor.
    Seen,
    Fixed(f64),
}

pub fn window<T: Real>(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    divisor: Divisor,
) -> Taps<T> {
    let rows = (0..outputs).map(|output| {
        let start = (output * stride) as i64 - padding as i64;
        let end = (start + kernel as i64).min((inputs + padding) as i64);
        let seen = start.max(0)..end.min(inputs as i64);
        let count = match divisor {
            Divisor::Padded => (end - start) as f64,
            Divisor::Seen => (seen.end - seen.start) as f64,
            Divisor::Fixed(count) => count,
        };
        let weight = T::from_f64(1.0 / count);
        seen.map(move |index| (index as usize, weight))
    });
    Taps::from_rows(inputs, rows)
}

/// The windows of an adaptive pooling: from `floor(i * inputs / outputs)` to `ceil((i + 1) * inputs
/// / outputs)`.
pub fn adaptive_window(inputs: usize, outputs: usize, output: usize) -> std::ops::Range<usize> {
    output * inputs / outputs..((output + 1) * inputs).div_ceil(outputs)
}

pub fn adaptive<T: Real>(inputs: usize, outputs: usize) -> Taps<T> {
    let rows = (0..outputs).map(|output| {
        let window = adaptive_window(inputs, outputs, output);
        let weight = T::from_f64(1.0 / window.len() as f64);
        window.map(move |index| (index, weight))
    });
    Taps::from_rows(inputs, rows)
}
