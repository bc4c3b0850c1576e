//! The rows whose machine code is written here: the same operations in the same order as the row's
//! expression in the op table, so the same bits. A row that is not here runs its own block loop.

use rustorch_kernels::math::activation::{CUBIC, HALF_ROOT, ROOT_TWO_OVER_PI};

use super::math;
use super::micro::{Binary, Code, Compare, Id, MaskBinary, Op};

/// A row over f32: the result's id, a mask for a test. None for a row without machine code.
pub fn float_row(name: &str, code: &mut Code, inputs: &[Id], scalars: [f32; 4]) -> Option<Id> {
    let s = scalars;
    Some(match (name, inputs) {
        ("add", &[a, b]) => {
            let b = scaled(code, s[0], b);
            code.add(a, b)
        }
        ("sub", &[a, b]) => {
            let b = scaled(code, s[0], b);
            code.sub(a, b)
        }
        ("add_scalar" | "sub_scalar" | "mul_scalar" | "div_scalar", &[x]) => {
            let scalar = code.constant(s[0]);
            let op = match name {
                "add_scalar" => Binary::Add,
                "sub_scalar" => Binary::Sub,
                "mul_scalar" => Binary::Mul,
                _ => Binary::Div,
            };
            code.two(op, x, scalar)
        }
        ("mul", &[a, b]) => code.mul(a, b),
        ("div", &[a, b]) => code.div(a, b),
        ("maximum" | "clamp_min_tensor", &[a, b]) => code.max(a, b),
        ("minimum" | "clamp_max_tensor", &[a, b]) => code.min(a, b),
        ("clamp" | "hardtanh", &[x]) => {
            let (low, high) = (code.constant(s[0]), code.constant(s[1]));
            bounded(code, x, low, high)
        }
        ("clamp_tensor", &[x, low, high]) => bounded(code, x, low, high),
        ("clamp_min", &[x]) => {
            let low = code.constant(s[0]);
            code.max(x, low)
        }
        ("clamp_max", &[x]) => {
            let high = code.constant(s[0]);
            code.min(x, high)
        }
        ("addcmul", &[a, b, c]) => {
            let scale = code.constant(s[0]);
            let b = code.mul(scale, b);
            let product = code.mul(b, c);
            code.add(a, product)
        }
        ("addcdiv", &[a, b, c]) => {
            let scale = code.constant(s[0]);
            let b = code.mul(scale, b);
            let quotient = code.div(b, c);
            code.add(a, quotient)
        }
        ("mul_add", &[a, b, c]) => code.mul_add(a, b, c),
        ("lerp_scalar", &[a, b]) => {
            // From the nearer end, as the row does.
            let span = code.sub(b, a);
            let weight = code.constant(if s[0].abs() < 0.5 { s[0] } else { 1.0 - s[0] });
            let part = if s[0].abs() < 0.5 { code.mul(weight, span) } else { code.mul(span, weight) };
            if s[0].abs() < 0.5 { code.add(a, part) } else { code.sub(b, part) }
        }
        ("neg", &[x]) => code.neg(x),
        ("abs", &[x]) => code.abs(x),
        ("reciprocal", &[x]) => {
            let one = code.constant(1.0);
            code.div(one, x)
        }
        ("sqrt", &[x]) => code.push(Op::Sqrt(x)),
        ("rsqrt", &[x]) => {
            let root = code.push(Op::Sqrt(x));
            let one = code.constant(1.0);
            code.div(one, root)
        }
        // `vmaxps` gives its second operand for NaN and for equal zeros, as the row does.
        ("relu", &[x]) => {
            let zero = code.constant(0.0);
            code.two(Binary::Max, zero, x)
        }
        ("threshold", &[x]) => {
            let (bound, value) = (code.constant(s[0]), code.constant(s[1]));
            let below = code.test(Compare::LessOrEqual, x, bound);
            code.select(below, value, x)
        }
        ("threshold_backward", &[grad, x]) => {
            let (bound, zero) = (code.constant(s[0]), code.constant(0.0));
            let below = code.test(Compare::LessOrEqual, x, bound);
            code.select(below, zero, grad)
        }
        ("leaky_relu", &[x]) => leaky(code, x, x, s[0]),
        ("leaky_relu_backward", &[grad, x]) => leaky(code, grad, x, s[0]),
        ("hardtanh_backward", &[grad, x]) => {
            let (low, high, zero) = (code.constant(s[0]), code.constant(s[1]), code.constant(0.0));
            let below = code.test(Compare::LessOrEqual, x, low);
            let above = code.test(Compare::GreaterOrEqual, x, high);
            let outside = code.masks(MaskBinary::Or, below, above);
            code.select(outside, zero, grad)
        }
        ("prelu", &[x, weight]) => leaky_by(code, x, x, weight),
        ("prelu_input_backward", &[grad, x, weight]) => leaky_by(code, grad, x, weight),
        ("sigmoid_backward", &[grad, y]) => {
            let one = code.constant(1.0);
            let rest = code.sub(one, y);
            let grad = code.mul(grad, rest);
            code.mul(grad, y)
        }
        ("tanh_backward", &[grad, y]) => {
            let one = code.constant(1.0);
            let square = code.mul(y, y);
            let slope = code.sub(one, square);
            code.mul(grad, slope)
        }
        ("mse_elementwise", &[a, b]) => {
            let distance = code.sub(a, b);
            code.mul(distance, distance)
        }
        ("mse_backward", &[grad, a, b]) => {
            let scale = code.constant(s[0]);
            let distance = code.sub(a, b);
            let scaled = code.mul(scale, distance);
            code.mul(scaled, grad)
        }
        ("where_self", &[condition, a, b]) => {
            let condition = code.is_true(condition);
            code.select(condition, a, b)
        }
        ("masked_fill", &[a, mask]) => {
            let value = code.constant(s[0]);
            let mask = code.is_true(mask);
            code.select(mask, value, a)
        }
        ("isnan", &[x]) => code.test(Compare::Unordered, x, x),
        _ => {
            let activated = activation(name, code, inputs, s);
            return activated.or_else(|| comparison(name, code, inputs, s[0]));
        }
    })
}

/// The rows with elementary functions in them.
fn activation(name: &str, code: &mut Code, inputs: &[Id], s: [f32; 4]) -> Option<Id> {
    Some(match (name, inputs) {
        ("exp", &[x]) => math::exp(code, x),
        ("log", &[x]) => math::ln(code, x),
        ("tanh", &[x]) => math::tanh(code, x),
        ("erf", &[x]) => math::erf(code, x),
        ("sigmoid", &[x]) => math::sigmoid(code, x),
        ("log_sigmoid_backward", &[grad, x]) => {
            let negative = code.neg(x);
            let sigmoid = math::sigmoid(code, negative);
            code.mul(grad, sigmoid)
        }
        ("glu", &[a, gate]) => {
            let sigmoid = math::sigmoid(code, gate);
            code.mul(a, sigmoid)
        }
        ("glu_gate_backward", &[grad, a, gate]) => {
            let (one, sigmoid) = (code.constant(1.0), math::sigmoid(code, gate));
            let grad = code.mul(grad, a);
            let grad = code.mul(grad, sigmoid);
            let rest = code.sub(one, sigmoid);
            code.mul(grad, rest)
        }
        ("silu", &[x]) => {
            let divisor = math::one_plus_exp_neg(code, x);
            code.div(x, divisor)
        }
        ("silu_backward", &[grad, x]) => {
            let (one, sigmoid) = (code.constant(1.0), math::sigmoid(code, x));
            let grad = code.mul(grad, sigmoid);
            let rest = code.sub(one, sigmoid);
            let part = code.mul(x, rest);
            let slope = code.add(one, part);
            code.mul(grad, slope)
        }
        ("softplus_backward", &[grad, x]) => {
            let (beta, threshold) = (code.constant(s[0]), code.constant(s[1]));
            let scaled = code.mul(x, beta);
            let sigmoid = math::sigmoid(code, scaled);
            let soft = code.mul(grad, sigmoid);
            let above = code.test(Compare::Greater, scaled, threshold);
            code.select(above, grad, soft)
        }
        ("elu_backward", &[grad, x]) => {
            let [alpha, scale, input_scale, is_result] = s;
            let negative = code.constant(alpha * scale);
            let slope = if is_result == 0.0 {
                let by = code.constant(input_scale);
                let scaled = code.mul(x, by);
                let exponential = math::exp(code, scaled);
                code.mul(negative, exponential)
            } else {
                code.add(x, negative)
            };
            let (by, scale, zero) = (code.constant(input_scale), code.constant(scale), code.constant(0.0));
            let slope = code.mul(by, slope);
            let below = code.test(Compare::LessOrEqual, x, zero);
            let slope = code.select(below, slope, scale);
            code.mul(grad, slope)
        }
        ("gelu_none", &[x]) => {
            let distribution = normal_cdf(code, x);
            code.mul(x, distribution)
        }
        ("gelu_backward_none", &[grad, x]) => {
            let (square, minus_half) = (code.mul(x, x), code.constant(-0.5));
            let exponent = code.mul(square, minus_half);
            let exponential = math::exp(code, exponent);
            let density = scaled_by(code, exponential, 0.5 * ROOT_TWO_OVER_PI);
            let distribution = normal_cdf(code, x);
            let part = code.mul(x, density);
            let slope = code.add(distribution, part);
            code.mul(grad, slope)
        }
        ("gelu_tanh", &[x]) => {
            let (one, tanh) = (code.constant(1.0), gelu_tanh(code, x));
            let half = scaled_by(code, x, 0.5);
            let sum = code.add(one, tanh);
            code.mul(half, sum)
        }
        ("gelu_backward_tanh", &[grad, x]) => {
            let (one, tanh) = (code.constant(1.0), gelu_tanh(code, x));
            let square = code.mul(x, x);
            let part = scaled_by(code, square, 3.0 * CUBIC);
            let sum = code.add(one, part);
            let inner_slope = scaled_by(code, sum, ROOT_TWO_OVER_PI);
            let tanh_square = code.mul(tanh, tanh);
            let tanh_slope = code.sub(one, tanh_square);
            let half = scaled_by(code, x, 0.5);
            let right = code.mul(half, tanh_slope);
            let right = code.mul(right, inner_slope);
            let sum = code.add(one, tanh);
            let left = scaled_by(code, sum, 0.5);
            let slope = code.add(left, right);
            code.mul(grad, slope)
        }
        ("mish", &[x]) => {
            let tanh = tanh_softplus(code, x);
            code.mul(x, tanh)
        }
        ("mish_backward", &[grad, x]) => {
            let (one, tanh) = (code.constant(1.0), tanh_softplus(code, x));
            let square = code.mul(tanh, tanh);
            let rest = code.sub(one, square);
            let sigmoid = math::sigmoid(code, x);
            let slope = code.mul(sigmoid, rest);
            let part = code.mul(x, slope);
            let sum = code.add(tanh, part);
            code.mul(grad, sum)
        }
        _ => return None,
    })
}

fn scaled_by(code: &mut Code, x: Id, factor: f64) -> Id {
    let factor = code.constant(factor as f32);
    code.mul(factor, x)
}

fn normal_cdf(code: &mut Code, x: Id) -> Id {
    let argument = scaled_by(code, x, HALF_ROOT);
    let (one, erf) = (code.constant(1.0), math::erf(code, argument));
    let sum = code.add(one, erf);
    scaled_by(code, sum, 0.5)
}

/// The hyperbolic tangent within GELU's approximation.
fn gelu_tanh(code: &mut Code, x: Id) -> Id {
    let square = code.mul(x, x);
    let cube = code.mul(square, x);
    let part = scaled_by(code, cube, CUBIC);
    let sum = code.add(x, part);
    let inner = scaled_by(code, sum, ROOT_TWO_OVER_PI);
    math::tanh(code, inner)
}

fn tanh_softplus(code: &mut Code, x: Id) -> Id {
    let (one, two, bound) = (code.constant(1.0), code.constant(2.0), code.constant(20.0));
    let exponential = math::exp(code, x);
    let twice = code.add(exponential, exponential);
    let product = code.mul_add(exponential, exponential, twice);
    let divisor = code.add(product, two);
    let tanh = code.div(product, divisor);
    let above = code.test(Compare::Greater, x, bound);
    code.select(above, one, tanh)
}

fn bounded(code: &mut Code, x: Id, low: Id, high: Id) -> Id {
    let x = code.max(x, low);
    code.min(x, high)
}

fn scaled(code: &mut Code, scale: f32, x: Id) -> Id {
    // A factor of one changes nothing.
    if scale == 1.0 {
        return x;
    }
    let scale = code.constant(scale);
    code.mul(scale, x)
}

fn leaky(code: &mut Code, value: Id, x: Id, slope: f32) -> Id {
    let slope = code.constant(slope);
    leaky_by(code, value, x, slope)
}

fn leaky_by(code: &mut Code, value: Id, x: Id, slope: Id) -> Id {
    let zero = code.constant(0.0);
    let above = code.test(Compare::Greater, x, zero);
    let sloped = code.mul(value, slope);
    code.select(above, value, sloped)
}

fn comparison(name: &str, code: &mut Code, inputs: &[Id], scalar: f32) -> Option<Id> {
    let (name, a, b) = match (name.strip_suffix("_scalar"), inputs) {
        (Some(name), &[a]) => (name, a, code.constant(scalar)),
        (None, &[a, b]) => (name, a, b),
        _ => return None,
    };
    let compare = match name {
        "eq" => Compare::Equal,
        "ne" => Compare::NotEqual,
        "lt" => Compare::Less,
        "le" => Compare::LessOrEqual,
        "gt" => Compare::Greater,
        "ge" => Compare::GreaterOrEqual,
        _ => return None,
    };
    Some(code.test(compare, a, b))
}

/// A row over bool.
pub fn mask_row(name: &str, code: &mut Code, inputs: &[Id]) -> Option<Id> {
    Some(match (name, inputs) {
        ("logical_and" | "bitwise_and" | "mul", &[a, b]) => code.masks(MaskBinary::And, a, b),
        ("logical_or" | "bitwise_or", &[a, b]) => code.masks(MaskBinary::Or, a, b),
        ("logical_xor" | "bitwise_xor" | "ne", &[a, b]) => code.masks(MaskBinary::Xor, a, b),
        _ => return None,
    })
}
