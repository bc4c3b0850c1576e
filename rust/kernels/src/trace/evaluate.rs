//! Computes traces, an element at a time: what machine code is held against.

use super::Trace;
use super::node::{Binary, Compare, Logic, Node, Unary};
use crate::element::{Bool, Element, Float, Number};
use crate::ops::row::SCALARS;
use crate::value::{Bits, Bitwise, Floating, Value};

/// An element type over which traces are computed. Values, words and masks (0 and 1) are all 64 bits wide between
/// the nodes.
pub trait Evaluate: Element {
    fn to_word(self) -> u64;
    fn from_word(word: u64) -> Self;
    /// None where the type has no such function.
    fn unary(op: Unary, value: u64) -> Option<u64>;
    fn binary(op: Binary, a: u64, b: u64) -> Option<u64>;
    fn mul_add(a: u64, b: u64, c: u64) -> Option<u64>;
    fn scaled(_value: u64, _whole: u64, _word: u64) -> Option<u64> {
        None
    }

    /// What a node gives for its operands, in order.
    fn node(node: &Node, operands: &[u64], inputs: &[Self], scalars: &[Self; SCALARS]) -> Option<u64> {
        Some(match (*node, operands) {
            (Node::Input(input), _) => inputs.get(input)?.to_word(),
            (Node::Scalar(scalar), _) => scalars.get(scalar)?.to_word(),
            (Node::Constant(word), _) => word,
            (Node::Word(word), _) => word.into(),
            (Node::Unary(Unary::Not, _), &[mask]) => mask ^ 1,
            (Node::Unary(op, _), &[a]) => Self::unary(op, a)?,
            (Node::Binary(op, ..), &[a, b]) => Self::binary(op, a, b)?,
            (Node::MulAdd(..), &[a, b, c]) => Self::mul_add(a, b, c)?,
            (Node::Compare(compare, ..), &[a, b]) => {
                let (a, b) = (Self::from_word(a), Self::from_word(b));
                u64::from(match compare {
                    Compare::Equal => a == b,
                    Compare::NotEqual => a != b,
                    Compare::Less => a < b,
                    Compare::LessOrEqual => a <= b,
                    Compare::Greater => a > b,
                    Compare::GreaterOrEqual => a >= b,
                })
            }
            (Node::Logic(logic, ..), &[a, b]) => match logic {
                Logic::And => a & b,
                Logic::Or => a | b,
                Logic::Xor => a ^ b,
            },
            (Node::Select(..), &[mask, then, otherwise]) => {
                if mask == 1 {
                    then
                } else {
                    otherwise
                }
            }
            (Node::ShiftedLeft(_, count), &[word]) => u64::from((word as u32) << count),
            (Node::ShiftedRight(_, count), &[word]) => u64::from(((word as u32 as i32) >> count) as u32),
            (Node::Scaled(..), &[value, whole, word]) => Self::scaled(value, whole, word)?,
            _ => return None,
        })
    }
}

impl Trace {
    /// The result of an element: its bits, or 0 and 1 of a mask. None where the trace is not of `T`, or reads
    /// operands that are not there.
    pub fn evaluate<T: Evaluate>(&self, inputs: &[T], scalars: &[T; SCALARS]) -> Option<u64> {
        if self.dtype != T::DTYPE {
            return None;
        }
        let mut words: Vec<u64> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.get(..=self.result)? {
            let mut operands = [0; 3];
            let mut count = 0;
            for operand in node.operands() {
                operands[count] = *words.get(operand)?;
                count += 1;
            }
            words.push(T::node(node, &operands[..count], inputs, scalars)?);
        }
        words.pop()
    }
}

/// What floats and integers have.
fn numeric<T: Number>(op: Binary, x: T, y: T) -> Option<T> {
    Some(match op {
        Binary::Add => x.add(y),
        Binary::Sub => x.sub(y),
        Binary::Mul => x.mul(y),
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
        Binary::DivFloor if x.is_long_quotient(y) => x.long_div_floor(y),
        Binary::DivFloor => x.div_floor(y),
        Binary::DivTrunc => x.div_trunc(y),
        Binary::Fmod if x.is_long_quotient(y) => x.long_fmod(y),
        Binary::Fmod => x.fmod(y),
        Binary::Pow => x.pow(y),
        _ => return None,
    })
}

macro_rules! float {
    ($type:ident $word:ident: $whole:expr; $($function:tt)*) => {
        impl Evaluate for $type {
            fn to_word(self) -> u64 {
                self.to_bits().into()
            }
            fn from_word(word: u64) -> Self {
                Self::from_bits(word as $word)
            }
            fn unary(op: Unary, value: u64) -> Option<u64> {
                let x = Self::from_word(value);
                let result = match op {
                    Unary::Neg => Value::neg(x),
                    Unary::Abs => Value::abs(x),
                    Unary::Floor => Value::floor(x),
                    Unary::Ceil => Value::ceil(x),
                    Unary::Trunc => Value::trunc(x),
                    Unary::RoundEven => Value::round_even(x),
                    Unary::Whole => $whole(value)?,
                    Unary::Sqrt => Floating::sqrt(x),
                    Unary::Exp => Floating::exp(x),
                    Unary::ExpOfNegative => Floating::exp_of_negative(x),
                    Unary::Exp2 => Floating::exp2(x),
                    Unary::ExpM1 => Floating::exp_m1(x),
                    Unary::Ln => Floating::ln(x),
                    Unary::Ln1p => Floating::ln_1p(x),
                    Unary::Log2 => Floating::log2(x),
                    Unary::Log10 => Floating::log10(x),
                    Unary::Tanh => Floating::tanh(x),
                    Unary::Erf => Floating::erf(x),
                    Unary::Erfc => Floating::erfc(x),
                    Unary::Erfinv => Floating::erfinv(x),
                    Unary::Sin if x.is_far() => x.sin_far(),
                    Unary::Sin => Floating::sin(x),
                    Unary::Cos if x.is_far() => x.cos_far(),
                    Unary::Cos => Floating::cos(x),
                    Unary::Tan if x.is_far() => x.tan_far(),
                    Unary::Tan => Floating::tan(x),
                    Unary::Asin => Floating::asin(x),
                    Unary::Acos => Floating::acos(x),
                    Unary::Atan => Floating::atan(x),
                    Unary::Sinh => Floating::sinh(x),
                    Unary::Cosh => Floating::cosh(x),
                    Unary::Asinh => Floating::asinh(x),
                    Unary::Acosh => Floating::acosh(x),
                    Unary::Atanh => Floating::atanh(x),
                    Unary::FrexpMantissa => Floating::frexp_mantissa(x),
                    Unary::FrexpExponent => Floating::frexp_exponent(x),
                    Unary::Not | Unary::Invert => return None,
                };
                Some(result.to_word())
            }
            fn binary(op: Binary, a: u64, b: u64) -> Option<u64> {
                let (x, y) = (Self::from_word(a), Self::from_word(b));
                let result = match op {
                    Binary::Div => Floating::div(x, y),
                    Binary::CopySign => Floating::copysign(x, y),
                    Binary::Plus => return Some((a as u32).wrapping_add(b as u32).into()),
                    Binary::Minus => return Some((a as u32).wrapping_sub(b as u32).into()),
                    Binary::Atan2 => Floating::atan2(x, y),
                    Binary::Hypot => Floating::hypot(x, y),
                    _ => numeric(op, x, y)?,
                };
                Some(result.to_word())
            }
            fn mul_add(a: u64, b: u64, c: u64) -> Option<u64> {
                Some(Floating::mul_add(Self::from_word(a), Self::from_word(b), Self::from_word(c)).to_word())
            }
            $($function)*
        }
    };
}
float!(f32 u32: |word| Some(<f32 as Bits>::whole(word as u32));
    fn scaled(value: u64, whole: u64, word: u64) -> Option<u64> {
        Some(Bits::scaled(Self::from_word(value), Self::from_word(whole), word as u32).to_word())
    }
);
float!(f64 u64: |_| None;);

macro_rules! integer {
    ($($type:ident),*) => {$(
        impl Evaluate for $type {
            fn to_word(self) -> u64 {
                self as u64
            }
            fn from_word(word: u64) -> Self {
                word as Self
            }
            fn unary(op: Unary, value: u64) -> Option<u64> {
                let x = Self::from_word(value);
                let result = match op {
                    Unary::Neg => Value::neg(x),
                    Unary::Abs => Value::abs(x),
                    Unary::Invert => Bitwise::not(x),
                    _ => return None,
                };
                Some(result.to_word())
            }
            fn binary(op: Binary, a: u64, b: u64) -> Option<u64> {
                let (x, y) = (Self::from_word(a), Self::from_word(b));
                let result = match op {
                    Binary::And => Bitwise::and(x, y),
                    Binary::Or => Bitwise::or(x, y),
                    Binary::Xor => Bitwise::xor(x, y),
                    Binary::ShiftLeft => Bitwise::shift_left(x, y),
                    Binary::ShiftRight => Bitwise::shift_right(x, y),
                    _ => numeric(op, x, y)?,
                };
                Some(result.to_word())
            }
            fn mul_add(_a: u64, _b: u64, _c: u64) -> Option<u64> {
                None
            }
        }
    )*};
}
integer!(u8, i8, i16, i32, i64);

/// All nodes of a trace over bool are masks.
impl Evaluate for Bool {
    fn to_word(self) -> u64 {
        self.get().into()
    }
    fn from_word(word: u64) -> Self {
        Self::new(word != 0)
    }
    fn unary(_op: Unary, _value: u64) -> Option<u64> {
        None
    }
    fn binary(_op: Binary, _a: u64, _b: u64) -> Option<u64> {
        None
    }
    fn mul_add(_a: u64, _b: u64, _c: u64) -> Option<u64> {
        None
    }
}
