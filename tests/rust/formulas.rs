//! Every pointwise op's values, against a plain formula in f64.

mod support;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::Level;
use rustorch_kernels::ops::{Entry, Op};
use rustorch_kernels::view::View;
use support::{Item, Tensor, assert_close, noise, pointwise_rows, run};

/// A formula in f64 for an op: inputs, scalars.
type Formula = fn([f64; 3], [f64; 4]) -> f64;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / 2f64.sqrt())
}
fn derivative(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    let step = 1e-5;
    (f(x + step) - f(x - step)) / (2.0 * step)
}
fn mish(x: f64) -> f64 {
    x * x.exp().ln_1p().tanh()
}
fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

#[test]
fn every_formula() {
    // Inputs lie in (-3, 3), scalars are 0.7, 1.3, 0.6.
    let formulas: &[(Op, Formula)] = &[
        (Op::add, |[a, b, _], s| a + s[0] * b),
        (Op::sub, |[a, b, _], s| a - s[0] * b),
        (Op::mul, |[a, b, _], _| a * b),
        (Op::div, |[a, b, _], _| a / b),
        (Op::add_scalar, |[a, ..], s| a + s[0]),
        (Op::sub_scalar, |[a, ..], s| a - s[0]),
        (Op::mul_scalar, |[a, ..], s| a * s[0]),
        (Op::div_scalar, |[a, ..], s| a / s[0]),
        (Op::div_floor, |[a, b, _], _| (a / b).floor()),
        (Op::div_trunc, |[a, b, _], _| (a / b).trunc()),
        (Op::fmod, |[a, b, _], _| a % b),
        (Op::remainder, |[a, b, _], _| a - (a / b).floor() * b),
        (Op::pow, |[a, b, _], _| a.powf(b)),
        (Op::pow_scalar, |[a, ..], s| a.powf(s[0])),
        (Op::cube, |[a, ..], _| a.powi(3)),
        (Op::reciprocal_square, |[a, ..], _| a.powi(-2)),
        (Op::maximum, |[a, b, _], _| a.max(b)),
        (Op::minimum, |[a, b, _], _| a.min(b)),
        (Op::fmin, |[a, b, _], _| a.min(b)),
        (Op::clamp, |[a, ..], s| a.max(s[0]).min(s[1])),
        (Op::clamp_tensor, |[a, b, c], _| a.max(b).min(c)),
        (Op::clamp_min, |[a, ..], s| a.max(s[0])),
        (Op::clamp_max, |[a, ..], s| a.min(s[0])),
        (Op::clamp_min_tensor, |[a, b, _], _| a.max(b)),
        (Op::clamp_max_tensor, |[a, b, _], _| a.min(b)),
        (Op::lerp_scalar, |[a, b, _], s| a + s[0] * (b - a)),
        (Op::lerp_tensor, |[a, b, c], _| a + c * (b - a)),
        (Op::addcmul, |[a, b, c], s| a + s[0] * b * c),
        (Op::addcdiv, |[a, b, c], s| a + s[0] * b / c),
        (Op::mul_add, |[a, b, c], _| a.mul_add(b, c)),
        (Op::neg, |[a, ..], _| -a),
        (Op::abs, |[a, ..], _| a.abs()),
        (Op::sign, |[a, ..], _| a.signum()),
        (Op::sgn, |[a, ..], _| a.signum()),
        (Op::copysign, |[a, b, _], _| a.copysign(b)),
        (Op::floor, |[a, ..], _| a.floor()),
        (Op::ceil, |[a, ..], _| a.ceil()),
        (Op::trunc, |[a, ..], _| a.trunc()),
        (Op::round, |[a, ..], _| a.round_ties_even()),
        (Op::frac, |[a, ..], _| a.fract()),
        (Op::reciprocal, |[a, ..], _| 1.0 / a),
        (Op::sqrt, |[a, ..], _| a.sqrt()),
        (Op::rsqrt, |[a, ..], _| 1.0 / a.sqrt()),
        (Op::exp, |[a, ..], _| a.exp()),
        (Op::exp2, |[a, ..], _| a.exp2()),
        (Op::expm1, |[a, ..], _| a.exp_m1()),
        (Op::log, |[a, ..], _| a.ln()),
        (Op::log1p, |[a, ..], _| a.ln_1p()),
        (Op::log2, |[a, ..], _| a.log2()),
        (Op::log10, |[a, ..], _| a.log10()),
        (Op::sin, |[a, ..], _| a.sin()),
        (Op::cos, |[a, ..], _| a.cos()),
        (Op::tan, |[a, ..], _| a.tan()),
        (Op::asin, |[a, ..], _| a.asin()),
        (Op::acos, |[a, ..], _| a.acos()),
        (Op::atan, |[a, ..], _| a.atan()),
        (Op::sinh, |[a, ..], _| a.sinh()),
        (Op::cosh, |[a, ..], _| a.cosh()),
        (Op::tanh, |[a, ..], _| a.tanh()),
        (Op::asinh, |[a, ..], _| libm::asinh(a)),
        (Op::acosh, |[a, ..], _| libm::acosh(a)),
        (Op::atanh, |[a, ..], _| libm::atanh(a)),
        (Op::erf, |[a, ..], _| libm::erf(a)),
        (Op::erfc, |[a, ..], _| libm::erfc(a)),
        (Op::sigmoid, |[a, ..], _| sigmoid(a)),
        (Op::atan2, |[a, b, _], _| a.atan2(b)),
        (Op::hypot, |[a, b, _], _| a.hypot(b)),
        (Op::logaddexp, |[a, b, _], _| (a.exp() + b.exp()).ln()),
        (Op::xlogy, |[a, b, _], _| a * b.ln()),
        (Op::xlog1py, |[a, b, _], _| a * b.ln_1p()),
        (Op::logaddexp2, |[a, b, _], _| (a.exp2() + b.exp2()).log2()),
        (Op::sinc, |[a, ..], _| (std::f64::consts::PI * a).sin() / (std::f64::consts::PI * a)),
        (Op::angle, |[a, ..], _| 0f64.atan2(a)),
        (Op::round_decimals, |[a, ..], s| {
            let scale = 10f64.powf(s[0]);
            (a * scale).round_ties_even() / scale
        }),
        (Op::renorm_factor, |[a, ..], s| if a > s[0] { s[0] / (a + 1e-7) } else { 1.0 }),
        (Op::frexp_mantissa, |[a, ..], _| a / (a.abs().log2().floor() + 1.0).exp2()),
        (Op::frexp_exponent, |[a, ..], _| a.abs().log2().floor() + 1.0),
        (Op::lgamma, |[a, ..], _| libm::tgamma(a).abs().ln()),
        (Op::entr, |[a, ..], _| if a < 0.0 { f64::NEG_INFINITY } else { -a * a.ln() }),
        // Where eps is above one half the bounds cross: the lower one is asked first.
        (Op::logit, |[a, ..], s| {
            let inside = if a < s[0] { s[0] } else { a.min(1.0 - s[0]) };
            (inside / (1.0 - inside)).ln()
        }),
        (Op::heaviside, |[a, ..], _| (a > 0.0) as u8 as f64),
        (Op::where_self, |[_, b, _], _| b),
        (Op::masked_fill, |_, s| s[0]),
        (Op::relu, |[a, ..], _| a.max(0.0)),
        (Op::threshold, |[a, ..], s| if a > s[0] { a } else { s[1] }),
        (Op::threshold_backward, |[g, x, _], s| if x > s[0] { g } else { 0.0 }),
        (Op::leaky_relu, |[a, ..], s| if a > 0.0 { a } else { a * s[0] }),
        (Op::leaky_relu_backward, |[g, x, _], s| if x > 0.0 { g } else { g * s[0] }),
        (Op::hardtanh, |[a, ..], s| a.clamp(s[0], s[1])),
        (Op::hardtanh_backward, |[g, x, _], s| if x > s[0] && x < s[1] { g } else { 0.0 }),
        (Op::hardsigmoid, |[a, ..], _| (a + 3.0) / 6.0),
        (Op::hardsigmoid_backward, |[g, ..], _| g / 6.0),
        (Op::hardswish, |[a, ..], _| a * (a + 3.0) / 6.0),
        (Op::hardswish_backward, |[g, x, _], _| g * (x / 3.0 + 0.5)),
        (Op::elu, |[a, ..], s| s[1] * if a > 0.0 { a } else { s[0] * (a * s[2]).exp_m1() }),
        (Op::elu_backward, |[g, x, _], s| g * s[1] * if x > 0.0 { 1.0 } else { s[0] * s[2] * (x * s[2]).exp() }),
        (Op::silu, |[a, ..], _| a * sigmoid(a)),
        (Op::silu_backward, |[g, x, _], _| g * derivative(|x| x * sigmoid(x), x)),
        (Op::gelu_none, |[a, ..], _| a * cdf(a)),
        (Op::gelu_tanh, |[a, ..], _| gelu_tanh(a)),
        (Op::glu, |[a, b, _], _| a * sigmoid(b)),
        (Op::glu_gate_backward, |[g, a, b], _| g * a * derivative(sigmoid, b)),
        (Op::prelu, |[x, w, _], _| if x > 0.0 { x } else { w * x }),
        (Op::prelu_input_backward, |[g, x, w], _| if x > 0.0 { g } else { w * g }),
        (Op::prelu_weight_backward, |[g, x, _], _| if x > 0.0 { 0.0 } else { x * g }),
        (Op::gelu_backward_none, |[g, x, _], _| g * derivative(|x| x * cdf(x), x)),
        (Op::gelu_backward_tanh, |[g, x, _], _| g * derivative(gelu_tanh, x)),
        (Op::mish, |[a, ..], _| mish(a)),
        (Op::mish_backward, |[g, x, _], _| g * derivative(mish, x)),
        (Op::softplus, |[a, ..], s| if a * s[0] > s[1] { a } else { (a * s[0]).exp().ln_1p() / s[0] }),
        (Op::softplus_backward, |[g, x, _], s| g * if x * s[0] > s[1] { 1.0 } else { sigmoid(x * s[0]) }),
        (Op::sigmoid_backward, |[g, y, _], _| g * y * (1.0 - y)),
        (Op::tanh_backward, |[g, y, _], _| g * (1.0 - y * y)),
        (Op::log_sigmoid, |[a, ..], _| sigmoid(a).ln()),
        (Op::log_sigmoid_backward, |[g, x, _], _| g * sigmoid(-x)),
        (Op::hardshrink, |[a, ..], s| if a.abs() > s[0] { a } else { 0.0 }),
        (Op::hardshrink_backward, |[g, x, _], s| if x.abs() > s[0] { g } else { 0.0 }),
        (Op::softshrink, |[a, ..], s| (a.abs() - s[0]).max(0.0).copysign(a)),
        (Op::softshrink_backward, |[g, x, _], s| if x.abs() > s[0] { g } else { 0.0 }),
        (Op::mse_elementwise, |[a, b, _], _| (a - b) * (a - b)),
        (Op::mse_backward, |[g, a, b], s| s[0] * (a - b) * g),
        (Op::smooth_l1_elementwise, |[a, b, _], s| {
            let d = (a - b).abs();
            if d < s[0] { 0.5 * d * d / s[0] } else { d - 0.5 * s[0] }
        }),
        (Op::smooth_l1_backward, |[g, a, b], s| s[0] * g * ((a - b) / s[1]).clamp(-1.0, 1.0)),
        (Op::huber_elementwise, |[a, b, _], s| {
            let d = (a - b).abs();
            if d <= s[0] { 0.5 * d * d } else { s[0] * (d - 0.5 * s[0]) }
        }),
        (Op::huber_backward, |[g, a, b], s| s[0] * g * (a - b).clamp(-s[1], s[1])),
        (Op::binary_cross_entropy, |[x, t, _], _| (t - 1.0) * (-x).ln_1p() - t * x.ln()),
        (Op::binary_cross_entropy_backward, |[g, x, t], s| s[0] * g * (x - t) / (x * (1.0 - x)).max(1e-12)),
    ];
    let scalars = [0.7, 1.3, 0.6, 0.0];
    let sizes = [499];
    let inputs: [Vec<f32>; 3] =
        std::array::from_fn(|at| (0..499).map(|i| (noise(at as u64 + 11)(i) * 2.99) as f32).collect());
    for &(op, formula) in formulas {
        let Entry::Pointwise(expression) = op.row().entry else { panic!("{op:?} is a kernel row") };
        let arity = expression.block(DType::F32).unwrap().arity;
        let expected: Vec<f64> =
            (0..499).map(|i| formula(std::array::from_fn(|at| inputs[at][i] as f64), scalars)).collect();
        check::<f32>(op, &sizes, &inputs[..arity], &scalars, &expected, 4e-6);
        check::<f64>(op, &sizes, &inputs[..arity], &scalars, &expected, 1e-9);
    }
    let missing: Vec<_> = pointwise_rows()
        .filter(|(row, expression)| {
            let block = expression.block(DType::F32);
            block.is_some_and(|block| block.output != DType::Bool)
                && formulas.iter().all(|(op, _)| op.row().name != row.name)
        })
        .map(|(row, _)| row.name)
        .collect();
    // These are tested by their special values, and in special.rs.
    let elsewhere = [
        "fmax",
        "digamma",
        "polygamma",
        "igamma",
        "igammac",
        "zeta",
        "erfinv",
        "erfcx",
        "ndtri",
        "log_ndtr",
        "i0",
        "i0e",
        "i1",
        "i1e",
        "standard_gamma_grad",
        "dirichlet_grad",
        "logit_backward",
        "nan_to_num",
    ];
    assert_eq!(missing, elsewhere);
}

trait FromF32: Item + Into<f64> {
    fn of(value: f32) -> Self;
}
impl FromF32 for f32 {
    fn of(value: f32) -> Self {
        value
    }
}
impl FromF32 for f64 {
    fn of(value: f32) -> Self {
        value as f64
    }
}

#[track_caller]
fn check<T: FromF32>(op: Op, sizes: &[i64], inputs: &[Vec<f32>], scalars: &[f64], expected: &[f64], bound: f64) {
    let inputs: Vec<Tensor<T>> = inputs.iter().map(|input| Tensor::new(sizes, |i| T::of(input[i]))).collect();
    for level in Level::available() {
        let out = Tensor::<T>::zeros(sizes);
        let views: Vec<View> = std::iter::once(&out).chain(&inputs).map(Tensor::view).collect();
        rustorch_kernels::isa::at(level, || run(op, &views, &[T::DTYPE as i64, 0, 0, 0, 0], scalars)).unwrap();
        let actual: Vec<f64> = out.values().into_iter().map(Into::into).collect();
        let wrong = actual.iter().zip(expected).position(|(a, b)| {
            !(a.is_nan() && b.is_nan())
                && a != b
                && (a - b).abs().partial_cmp(&(bound + bound * b.abs())).is_none_or(std::cmp::Ordering::is_gt)
        });
        if let Some(at) = wrong {
            let values: Vec<T> = inputs.iter().map(|input| input.values()[at]).collect();
            panic!("{op:?} of {values:?}: {} is not {}", actual[at], expected[at]);
        }
        assert_close(&actual, expected, bound, bound);
    }
}
