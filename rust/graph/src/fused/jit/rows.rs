//! The rows whose machine code is written here: the same operations in the same order as the row's
//! expression in the op table, so the same bits. A row that is not here runs its own block loop.

use super::micro::{Code, Compare, Id, Op};

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
            code.push(Op::Max(zero, x))
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
            let outside = code.push(Op::MaskOr(below, above));
            code.select(outside, zero, grad)
        }
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
        _ => return comparison(name, code, inputs, s[0]),
    })
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
    let (slope, zero) = (code.constant(slope), code.constant(0.0));
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
        ("logical_and" | "bitwise_and" | "mul", &[a, b]) => code.push(Op::MaskAnd(a, b)),
        ("logical_or" | "bitwise_or", &[a, b]) => code.push(Op::MaskOr(a, b)),
        ("logical_xor" | "bitwise_xor" | "ne", &[a, b]) => code.push(Op::MaskXor(a, b)),
        _ => return None,
    })
}
