//! The regularised incomplete gamma functions: a power series below, a continued fraction above,
//! Temme's expansion where the order is huge and the argument near it.

use std::f64::consts::{E, PI};

use super::coefficients::{LANCZOS_DENOMINATOR, LANCZOS_NUMERATOR};

const LANCZOS_G: f64 = 6.02468004077673;
/// Terms grow with the order's root; the expansion takes over long before they run out.
const MOST_TERMS: usize = 20_000;
/// Orders above it are expanded near their own value.
const HUGE: f64 = 1e5;

pub(super) fn lower(a: f64, x: f64) -> f64 {
    if let Some(value) = at_the_edge(a, x) {
        return value;
    }
    if is_expanded(a, x) {
        return expansion(a, x, -1.0);
    }
    if x > 1.0 && x > a { 1.0 - upper(a, x) } else { series(a, x) }
}

pub(super) fn upper(a: f64, x: f64) -> f64 {
    if let Some(value) = at_the_edge(a, x) {
        return 1.0 - value;
    }
    if is_expanded(a, x) {
        return expansion(a, x, 1.0);
    }
    let is_small = if x > 1.1 {
        x < a
    } else if x <= 0.5 {
        -0.4 / x.ln() < a
    } else {
        x * 1.1 < a
    };
    if is_small {
        1.0 - series(a, x)
    } else if x > 1.1 {
        continued_fraction(a, x)
    } else {
        complement_series(a, x)
    }
}

/// The lower function where it is known or not defined.
fn at_the_edge(a: f64, x: f64) -> Option<f64> {
    if x < 0.0 || a < 0.0 || (a == 0.0 && (x == 0.0 || x.is_nan())) || (a.is_infinite() && x.is_infinite()) {
        return Some(f64::NAN);
    }
    // As PyTorch has it, an argument that decides alone does so whatever the other is, NaN included.
    if a == 0.0 || x.is_infinite() {
        return Some(1.0);
    }
    if x == 0.0 || a.is_infinite() {
        return Some(0.0);
    }
    (x.is_nan() || a.is_nan()).then_some(f64::NAN)
}

fn is_expanded(a: f64, x: f64) -> bool {
    a > HUGE && (x - a).abs() < 0.3 * a
}

/// `x^a exp(-x) / gamma(a)`
fn factor(a: f64, x: f64) -> f64 {
    if (a - x).abs() > 0.4 * a {
        return (a * x.ln() - x - libm::lgamma(a)).exp();
    }
    let shifted = a + LANCZOS_G - 0.5;
    let scale = (shifted / E).sqrt() / lanczos_sum(a);
    if a < 200.0 && x < 200.0 {
        return scale * (a - x).exp() * (x / shifted).powf(a);
    }
    let relative = (x - shifted) / shifted;
    scale * (a * (relative.ln_1p() - relative) + x * (0.5 - LANCZOS_G) / shifted).exp()
}

fn lanczos_sum(x: f64) -> f64 {
    // In powers of the inverse where that is smaller: numerator and denominator have one degree.
    let sum = |coefficients: &[f64]| -> f64 {
        if x > 1.0 {
            coefficients.iter().rev().fold(0.0, |sum, coefficient| sum / x + coefficient)
        } else {
            super::polynomial(x, coefficients)
        }
    };
    sum(&LANCZOS_NUMERATOR) / sum(&LANCZOS_DENOMINATOR)
}

/// The lower function by its power series.
fn series(a: f64, x: f64) -> f64 {
    let factor = factor(a, x);
    if factor == 0.0 {
        return 0.0;
    }
    let (mut order, mut term, mut sum) = (a, 1.0, 1.0);
    for _ in 0..MOST_TERMS {
        order += 1.0;
        term *= x / order;
        sum += term;
        if term <= f64::EPSILON / 2.0 * sum {
            break;
        }
    }
    sum * factor / a
}

/// The upper function of a small argument, without cancellation.
fn complement_series(a: f64, x: f64) -> f64 {
    let (mut power, mut sum) = (1.0, 0.0);
    for n in 1..MOST_TERMS {
        power *= -x / n as f64;
        let term = power / (a + n as f64);
        sum += term;
        if term.abs() <= f64::EPSILON / 2.0 * f64::abs(sum) {
            break;
        }
    }
    let log = a * x.ln();
    -(log - libm::lgamma(1.0 + a)).exp_m1() - (log - libm::lgamma(a)).exp() * sum
}

/// The upper function by its continued fraction, evaluated forwards (Lentz).
fn continued_fraction(a: f64, x: f64) -> f64 {
    let factor = factor(a, x);
    if factor == 0.0 {
        return 0.0;
    }
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut denominator = x + 1.0 - a;
    let mut numerator_ratio = 1.0 / TINY;
    let mut inverse = 1.0 / away(denominator);
    let mut fraction = inverse;
    for n in 1..MOST_TERMS {
        let coefficient = -(n as f64) * (n as f64 - a);
        denominator += 2.0;
        inverse = 1.0 / away(coefficient * inverse + denominator);
        numerator_ratio = away(denominator + coefficient / numerator_ratio);
        let step = inverse * numerator_ratio;
        fraction *= step;
        if (step - 1.0).abs() <= f64::EPSILON / 2.0 {
            break;
        }
    }
    fraction * factor
}

/// Temme's uniform expansion, to the first order in `1 / a`; `side` is 1 for the upper function.
fn expansion(a: f64, x: f64, side: f64) -> f64 {
    let away = (x - a) / a;
    // eta^2 / 2 = away - ln(1 + away); its series keeps the digits near zero.
    let half_square = if away.abs() < 1e-2 {
        (2..12).rev().fold(0.0, |sum, n| sum * -away + 1.0 / n as f64) * away * away
    } else {
        away - away.ln_1p()
    };
    let eta = (2.0 * half_square).sqrt().copysign(away);
    let first = if eta.abs() < 1e-2 {
        super::polynomial(eta, &[-139.0 / 777_600.0, 1.0 / 2835.0, 1.0 / 864.0, -2.0 / 135.0, 1.0 / 12.0, -1.0 / 3.0])
    } else {
        1.0 / away - 1.0 / eta
    };
    let second = if eta.abs() < 0.2 { -1.0 / 540.0 - eta / 288.0 } else { 0.0 };
    let rest = (-a * half_square).exp() / (2.0 * PI * a).sqrt() * (first + second / a);
    0.5 * libm::erfc(side * eta * (a / 2.0).sqrt()) + side * rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gamma distribution of a large order is nearly normal; the series knows it exactly.
    #[test]
    fn expansion_agrees_with_the_series() {
        for (a, x) in [(2e5, 2e5), (2e5, 2.005e5), (2e5, 1.995e5), (3e5, 3.01e5), (3e5, 2.99e5), (2e5, 2.1e5)] {
            let (by_series, by_fraction) = (series(a, x), continued_fraction(a, x.max(a + 1.0)));
            assert!((expansion(a, x, -1.0) - by_series).abs() < 1e-9, "{a} {x}");
            assert!((expansion(a, x.max(a + 1.0), 1.0) - by_fraction).abs() < 1e-9, "{a} {x}");
            assert!((expansion(a, x, 1.0) + by_series - 1.0).abs() < 1e-9, "{a} {x}");
        }
        assert!((lower(0.5, 0.5) - libm::erf(std::f64::consts::FRAC_1_SQRT_2)).abs() < 1e-15);
    }
}
