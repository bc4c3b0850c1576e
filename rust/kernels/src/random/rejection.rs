//! Distributions that draw until they accept. Each element has a sequence of its own, so that how
//! many numbers one takes does not move the others.

use super::{Stream, philox};
use crate::convert::StoredFloat;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{filled, reserved};
use crate::index::contiguous_strides;
use crate::loops::copy;
use crate::match_float;
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 1024;
/// What one element takes, about.
const NANOSECONDS: usize = 100;

/// The numbers of one element.
struct Numbers {
    stream: Stream,
    element: u64,
    taken: u32,
}

impl Numbers {
    /// In (0, 1), with 52 bits.
    fn unit(&mut self) -> f64 {
        let words = philox::nested(self.stream.seed, self.stream.offset.wrapping_add(self.element), self.taken / 2);
        let at = 2 * (self.taken % 2) as usize;
        self.taken += 1;
        let word = u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        ((word >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// By products of uniform numbers where the rate is low; else Hörmann's transformed rejection (1993).
fn poisson_of(numbers: &mut Numbers, rate: f64) -> f64 {
    if rate < 10.0 {
        let (mut events, mut product) = (0.0, numbers.unit());
        while product > (-rate).exp() {
            product *= numbers.unit();
            events += 1.0;
        }
        return events;
    }
    let b = 0.931 + 2.53 * rate.sqrt();
    let a = -0.059 + 0.02483 * b;
    let (inverse_alpha, accepted) = (1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0));
    loop {
        let (u, v) = (numbers.unit() - 0.5, numbers.unit());
        let edge = 0.5 - u.abs();
        let events = ((2.0 * a / edge + b) * u + rate + 0.43).floor();
        if edge >= 0.07 && v <= accepted {
            return events;
        }
        if events < 0.0 || (edge < 0.013 && v > edge) {
            continue;
        }
        let density = -rate + events * rate.ln() - libm::lgamma(events + 1.0);
        if v.ln() + inverse_alpha.ln() - (a / (edge * edge) + b).ln() <= density {
            return events;
        }
    }
}

/// By the gaps between successes where they are few; else Hörmann's transformed rejection.
fn binomial_of(numbers: &mut Numbers, count: f64, p: f64) -> f64 {
    if count.is_nan() || p.is_nan() {
        return f64::NAN;
    }
    if count <= 0.0 || p <= 0.0 {
        return 0.0;
    }
    if p > 0.5 {
        return count - binomial_of(numbers, count, 1.0 - p);
    }
    let mean = count * p;
    if mean < 10.0 {
        let (mut successes, mut trials) = (0.0, 0.0);
        loop {
            trials += (numbers.unit().ln() / (-p).ln_1p()).ceil().max(1.0);
            if trials > count {
                return successes;
            }
            successes += 1.0;
        }
    }
    let deviation = (mean * (1.0 - p)).sqrt();
    let b = 1.15 + 2.53 * deviation;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let (accepted, alpha) = (0.92 - 4.2 / b, (2.83 + 5.1 / b) * deviation);
    let mode = ((count + 1.0) * p).floor();
    let arrangements = |successes: f64| libm::lgamma(successes + 1.0) + libm::lgamma(count - successes + 1.0);
    loop {
        let (u, v) = (numbers.unit() - 0.5, numbers.unit());
        let edge = 0.5 - u.abs();
        let successes = ((2.0 * a / edge + b) * u + mean + 0.5).floor();
        if edge >= 0.07 && v <= accepted {
            return successes;
        }
        if !(0.0..=count).contains(&successes) {
            continue;
        }
        let density = arrangements(mode) - arrangements(successes) + (successes - mode) * (p / (1.0 - p)).ln();
        if (v * alpha / (a / (edge * edge) + b)).ln() <= density {
            return successes;
        }
    }
}

/// Marsaglia and Tsang (2000).
fn gamma_of(numbers: &mut Numbers, shape: f64) -> f64 {
    if shape == 0.0 {
        return 0.0;
    }
    let (scale, shape) = if shape < 1.0 { (numbers.unit().powf(1.0 / shape), shape + 1.0) } else { (1.0, shape) };
    let d = shape - 1.0 / 3.0;
    // No draw would be accepted.
    if d == f64::INFINITY {
        return d;
    } else if d.is_nan() || d <= 0.0 {
        return f64::NAN;
    }
    loop {
        let x = numbers.normal();
        let cube = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        if cube > 0.0 && numbers.unit().ln() < 0.5 * x * x + d * (1.0 - cube + cube.ln()) {
            return scale * d * cube;
        }
    }
}

/// `[out, rate]`, floats of one shape. Words: 4.
pub fn poisson(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let allowed = |[rate]: [f64; 1]| rate.is_nan() || rate >= 0.0;
    each(views, attrs, "invalid Poisson rate, expected rate to be non-negative", allowed, |numbers, [rate]| {
        if rate.is_finite() { poisson_of(numbers, rate) } else { rate }
    })
}

/// `[out, count, p]`, floats of one shape. Words: 4.
pub fn binomial(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    each(views, attrs, "", |_| true, |numbers, [count, p]| binomial_of(numbers, count, p))
}

/// `[out, shape]`, floats of one shape. Words: 4.
pub fn standard_gamma(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = views.first().ok_or_else(|| Error::Runtime("no operands".into()))?;
    // Never zero: its logarithm is asked for.
    let smallest = match_float!(out.dtype(), S => <S as Smallest>::NORMAL);
    each(
        views,
        attrs,
        "",
        |_| true,
        |numbers, [shape]| {
            let value = gamma_of(numbers, shape);
            // As on the CPU, a shape that has no gamma gives the smallest number too.
            if value > smallest { value } else { smallest }
        },
    )
}

trait Smallest: StoredFloat {
    const NORMAL: f64;
}
impl Smallest for f32 {
    const NORMAL: f64 = f32::MIN_POSITIVE as f64;
}
impl Smallest for f64 {
    const NORMAL: f64 = f64::MIN_POSITIVE;
}
impl Smallest for half::f16 {
    const NORMAL: f64 = 6.103515625e-05;
}
impl Smallest for half::bf16 {
    const NORMAL: f64 = f32::MIN_POSITIVE as f64;
}

fn each<const INPUTS: usize>(
    views: &[View<'_>],
    attrs: &Attrs<'_>,
    refusal: &str,
    allowed: impl Fn([f64; INPUTS]) -> bool,
    draw: impl Fn(&mut Numbers, [f64; INPUTS]) -> f64 + Sync,
) -> Result<()> {
    let Some((out, inputs)) = views.split_first().filter(|(_, inputs)| inputs.len() == INPUTS) else {
        return Err(Error::Runtime(format!("expected an output and {INPUTS} inputs, got {} views", views.len())));
    };
    let stream = Stream::of(attrs)?;
    let strides = contiguous_strides(out.sizes());
    let numel = out.numel();
    let mut parameters = reserved(INPUTS);
    for input in inputs {
        if input.sizes() != out.sizes() {
            let (sizes, wanted) = (input.sizes(), out.sizes());
            return Err(Error::Shape(format!("parameters of shape {sizes:?} must match {wanted:?}")));
        }
        let mut values = filled(numel, 0f64);
        // SAFETY: the vector has an element for each of the input's.
        let dense = unsafe { View::new(values.as_mut_ptr().cast(), DType::F64, input.sizes(), &strides) };
        copy::launch(&[dense, *input], &Attrs::default())?;
        parameters.push(values);
    }
    let of = |index: usize| -> [f64; INPUTS] { std::array::from_fn(|input| parameters[input][index]) };
    if (0..numel).any(|index| !allowed(of(index))) {
        return Err(Error::Runtime(refusal.into()));
    }
    let mut values = filled(numel, 0f64);
    let shared = super::fill::Address(values.as_mut_ptr().cast());
    threads::parallel_chunks(numel, TASK, numel * NANOSECONDS, |range| {
        for index in range {
            let mut numbers = Numbers { stream, element: index as u64, taken: 0 };
            let value = draw(&mut numbers, of(index));
            // SAFETY: within the vector; each task has its own elements.
            unsafe { shared.at(index * size_of::<f64>()).cast::<f64>().write(value) };
        }
    });
    // SAFETY: the vector has an element for each of the output's.
    let dense = unsafe { View::new(values.as_mut_ptr().cast(), DType::F64, out.sizes(), &strides) };
    copy::launch(&[*out, dense], &Attrs::default())
}
