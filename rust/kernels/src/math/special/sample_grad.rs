//! How a draw moves with the parameters of its distribution: approximations, good to three or four digits, by regions
//! of their arguments. They are PyTorch's, term by term, so that gradients are.

use super::digamma;

/// PyTorch's digamma for these has no sign at its poles.
fn digamma_or_infinity(x: f64) -> f64 {
    if x == 0.0 || (x < 0.0 && x == x.floor()) { f64::INFINITY } else { digamma(x) }
}

/// Where the result is not a number, the draw does not move.
fn or_still(result: f64) -> f64 {
    if result.is_nan() { 0.0 } else { result }
}

/// Coefficients with the lowest degree first.
fn rising(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| coefficient + x * sum)
}

/// Of a draw `x` of the gamma distribution of shape `alpha`: minus the derivative of its distribution function by the
/// shape, over its density.
pub(super) fn standard_gamma(alpha: f64, x: f64) -> f64 {
    if x < f64::from(0.8f32) {
        return gamma_near_zero(alpha, x);
    }
    if alpha > 8.0 {
        return gamma_of_large_shape(alpha, x);
    }
    // A rational function of both logarithms.
    const BY_SHAPE: [[f64; 3]; 8] = [
        [0.16009398, 0.53487893, 0.040121004],
        [-0.094634809, 0.1298071, -0.0065914022],
        [0.025146376, 0.065735949, -0.0026286047],
        [-0.0030648343, -0.0015649758, -0.0013441777],
        [1.0, 0.16639465, 0.017050642],
        [0.32668115, 0.020070113, -0.0021309326],
        [0.10406089, -0.0035938915, 0.00085092367],
        [0.0014179084, -0.00058392623, -1.5247877e-07],
    ];
    let (u, v) = ((x / alpha).ln(), alpha.ln());
    let by_shape = BY_SHAPE.map(|coefficients| rising(u, &coefficients));
    (rising(v, &by_shape[..4]) / rising(v, &by_shape[4..])).exp()
}

/// A Taylor series.
fn gamma_near_zero(alpha: f64, x: f64) -> f64 {
    let (mut numerator, mut denominator) = (1.0, alpha);
    let mut series = numerator / denominator;
    let mut series_of_squares = numerator / (denominator * denominator);
    for step in 1..=5 {
        numerator *= -x / f64::from(step);
        denominator += 1.0;
        series += numerator / denominator;
        series_of_squares += numerator / (denominator * denominator);
    }
    let power = x.powf(alpha);
    let density = x.powf(alpha - 1.0) * (-x).exp();
    let by_shape = (x.ln() - digamma_or_infinity(alpha)) * (power * series) - power * series_of_squares;
    or_still(-by_shape / density)
}

/// Rice's expansion at the saddle point, and what it tends to where the draw is near the shape.
fn gamma_of_large_shape(alpha: f64, x: f64) -> f64 {
    if f64::from(0.9f32) * alpha <= x && x <= f64::from(1.1f32) * alpha {
        let first = 1.0 + 24.0 * alpha * (1.0 + 12.0 * alpha);
        let second = 1440.0 * (alpha * alpha) + 6.0 * x * (53.0 - 120.0 * x) - 65.0 * x * x / alpha
            + alpha * (107.0 + 3600.0 * x);
        return first * second / (1_244_160.0 * (alpha * alpha) * (alpha * alpha));
    }
    let root = (8.0 * alpha).sqrt();
    let pole = root / (alpha - x);
    let saddle = (x - alpha - alpha * (x / alpha).ln()).powf(-1.5);
    let both = if x < alpha { pole - saddle } else { pole + saddle };
    let apart = alpha - x;
    let term = (x / alpha).ln() * both - (2.0 / alpha).sqrt() * (alpha + x) / (apart * apart);
    let stirling = 1.0 + 1.0 / (12.0 * alpha) * (1.0 + 1.0 / (24.0 * alpha));
    -stirling * (x * term) / root
}

/// Of a share `x` of the Dirichlet distribution, a draw of the beta distribution of `alpha` and `total - alpha`: minus
/// the derivative of its distribution function by `alpha`, over its density and `1 - x`.
pub(super) fn dirichlet(x: f64, alpha: f64, total: f64) -> f64 {
    let beta = total - alpha;
    let from_ends = total * x * (1.0 - x);
    if x <= 0.5 && from_ends < 2.5 {
        return beta_by_alpha_near_zero(x, alpha, beta);
    }
    if x >= 0.5 && from_ends < 0.75 {
        return -beta_by_beta_near_zero(1.0 - x, beta, alpha);
    }
    if alpha > 6.0 && beta > 6.0 {
        return beta_of_large_shapes(x, alpha, beta);
    }
    // A rational correction, in three logarithms, to what is known in closed form.
    const ABOVE: [[[f64; 4]; 3]; 3] = [
        [
            [1.003668233, -0.01061107488, -0.0657888334, 0.01201642863],
            [0.6336835991, -0.3557432599, 0.05486251648, -0.001465281033],
            [-0.03276231906, 0.004474107445, 0.002429354597, -0.0001557569013],
        ],
        [
            [0.221950385, -0.3187676331, 0.01799915743, 0.01074823814],
            [-0.2951249643, 0.06219954479, 0.01535556598, 0.001550077057],
            [0.02155310298, 0.004170831599, 0.001292462449, 6.976601077e-05],
        ],
        [
            [-0.05980841433, 0.008441916499, 0.01085618172, 0.002319392565],
            [0.02911413504, 0.01400243777, -0.002721828457, 0.000751041181],
            [0.005900514878, -0.001936558688, -9.495446725e-06, 5.385558597e-05],
        ],
    ];
    const BELOW: [[[f64; 4]; 3]; 3] = [
        [
            [1.0, -0.02924021934, -0.04438342661, 0.007285809825],
            [0.6357567472, -0.3473456711, 0.05454656494, -0.002407477521],
            [-0.03301322327, 0.004845219414, 0.00231480583, -0.0002307248149],
        ],
        [
            [0.5925320577, -0.1757678135, 0.01505928619, 0.000564515273],
            [0.1014815858, -0.06589186703, 0.01272886114, -0.0007316646956],
            [-0.007258481865, 0.001096195486, 0.0003934994223, -4.12701925e-05],
        ],
        [
            [0.06469649321, -0.0236701437, 0.002902096474, -5.896963079e-05],
            [0.001925008108, -0.002869809258, 0.0008000589141, -6.063713228e-05],
            [-0.0003477407336, 6.959756487e-05, 1.097287507e-05, -1.650964693e-06],
        ],
    ];
    let u = x.ln();
    let a = alpha.ln() - u;
    let b = total.ln() - a;
    let sum = |table: &[[[f64; 4]; 3]; 3]| rising(u, &table.map(|row| rising(a, &row.map(|entry| rising(b, &entry)))));
    let closed = x * (digamma_or_infinity(total) - digamma_or_infinity(alpha)) / beta;
    sum(&ABOVE) / sum(&BELOW) * closed
}

/// A Taylor series in `x`.
fn beta_by_alpha_near_zero(x: f64, alpha: f64, beta: f64) -> f64 {
    let factor = digamma_or_infinity(alpha) - digamma_or_infinity(alpha + beta) - x.ln();
    let mut numerator = 1.0;
    let mut series = numerator / alpha * (factor + 1.0 / alpha);
    for step in (1..=10).map(f64::from) {
        numerator *= (step - beta) * x / step;
        let denominator = alpha + step;
        series += numerator / denominator * (factor + 1.0 / denominator);
    }
    or_still(x * (1.0 - x).powf(-beta) * series)
}

/// The same of the derivative by `beta`.
fn beta_by_beta_near_zero(x: f64, alpha: f64, beta: f64) -> f64 {
    let factor = digamma_or_infinity(alpha + beta) - digamma_or_infinity(beta);
    let (mut numerator, mut betas, mut by_beta, mut series) = (1.0, 1.0, 0.0, factor / alpha);
    for step in (1..=8).map(f64::from) {
        numerator *= -x / step;
        by_beta = by_beta * (beta - step) + betas;
        betas *= beta - step;
        series += numerator / (alpha + step) * (by_beta + factor * betas);
    }
    or_still(-(1.0 - x).powf(1.0 - beta) * series)
}

/// Rice's expansion at the saddle point, and what it tends to where the share is near its mean.
fn beta_of_large_shapes(x: f64, alpha: f64, beta: f64) -> f64 {
    let total = alpha + beta;
    let mean = alpha / total;
    let deviation = (alpha * beta / (total + 1.0)).sqrt() / total;
    if mean - 0.1 * deviation <= x && x <= mean + 0.1 * deviation {
        let square = beta * beta;
        let polynomial = rising(
            alpha,
            &[
                47.0 * x * square * square,
                (43.0 + 20.0 * (16.0 + 27.0 * beta) * x) * square * beta,
                3.0 * (59.0 + 180.0 * beta - 90.0 * x) * square,
                (453.0 + 1620.0 * beta * (1.0 - x) - 455.0 * x) * beta,
                8.0 * (1.0 - x) * (135.0 * beta - 11.0),
            ],
        );
        let above = (1.0 + 12.0 * alpha) * (1.0 + 12.0 * beta) / (total * total);
        let below = 12960.0 * alpha * alpha * alpha * square * (1.0 + 12.0 * total);
        return above / (1.0 - x) * polynomial / below;
    }
    let stirling = |shape: f64| 1.0 + 1.0 / (12.0 * shape) + 1.0 / (288.0 * shape * shape);
    let from_mean = alpha * (x - 1.0) + beta * x;
    let first = (2.0 * (alpha * alpha) * (x - 1.0) + alpha * beta * (x - 1.0) - x * (beta * beta))
        / ((2.0 * alpha / beta).sqrt() * total.powf(1.5) * from_mean * from_mean);
    let second = 0.5 * (alpha / (total * x)).ln();
    let third = (8.0 * alpha * beta / total).sqrt() / from_mean;
    let saddle = (beta * (beta / (total * (1.0 - x))).ln() + alpha * (alpha / (total * x)).ln()).powf(-1.5);
    let terms = first + second * (third + if x < mean { saddle } else { -saddle });
    let prefactor = -x / (2.0 * alpha * beta / total).sqrt();
    stirling(alpha) * stirling(beta) / stirling(total) * prefactor * terms
}
