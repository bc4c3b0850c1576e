//! Values that record what is done to them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{BitAnd, BitOr, BitXor, Not};

use super::node::{Binary, Compare, Id, Logic, Node, Unary};
use super::{Evaluate, Trace};
use crate::dtype::DType;
use crate::element::Bool;
use crate::math::single;
use crate::ops::row::SCALARS;
use crate::value::{Bits, Bitwise, Floating, Numeric, Value, Word, raised};

#[derive(Default)]
struct Recording {
    nodes: Vec<Node>,
    known: HashMap<Node, Id>,
}

thread_local! {
    static RECORDING: RefCell<Recording> = RefCell::default();
}

/// The place of a node; equal ones have one.
fn push(node: Node) -> Id {
    RECORDING.with_borrow_mut(|recording| {
        let Recording { nodes, known } = recording;
        *known.entry(node).or_insert_with(|| {
            nodes.push(node);
            nodes.len() - 1
        })
    })
}

/// What an expression gives.
pub trait Recorded {
    /// Its node, and whether that is a mask.
    fn recorded(self) -> (Id, bool);
}

impl<T: Evaluate> Recorded for Traced<T> {
    fn recorded(self) -> (Id, bool) {
        (self.id(), T::DTYPE == DType::Bool)
    }
}

impl Recorded for TracedMask {
    fn recorded(self) -> (Id, bool) {
        (self.0, true)
    }
}

/// Records an expression of so many inputs.
pub fn record<T: Evaluate, const INPUTS: usize, R: Recorded>(
    expression: fn([Traced<T>; INPUTS], [Traced<T>; SCALARS]) -> R,
) -> Trace {
    RECORDING.take();
    let inputs = std::array::from_fn(|input| Traced::Node(push(Node::Input(input))));
    let scalars = std::array::from_fn(|scalar| Traced::Node(push(Node::Scalar(scalar))));
    let (result, is_mask) = expression(inputs, scalars).recorded();
    Trace { dtype: T::DTYPE, inputs: INPUTS, nodes: RECORDING.take().nodes, result, is_mask }.pruned()
}

/// A value of the element type `T` within a recording.
#[derive(Clone, Copy)]
pub enum Traced<T> {
    Node(Id),
    Constant(T),
}

impl<T: Evaluate> Traced<T> {
    pub fn id(self) -> Id {
        match self {
            Self::Node(id) => id,
            Self::Constant(value) => push(Node::Constant(value.to_word())),
        }
    }

    fn unary(self, op: Unary) -> Self {
        Self::Node(push(Node::Unary(op, self.id())))
    }

    fn binary(self, op: Binary, other: Self) -> Self {
        Self::Node(push(Node::Binary(op, self.id(), other.id())))
    }

    fn compare(self, compare: Compare, other: Self) -> TracedMask {
        TracedMask(push(Node::Compare(compare, self.id(), other.id())))
    }
}

/// A comparison's result within a recording.
#[derive(Clone, Copy)]
pub struct TracedMask(Id);

impl TracedMask {
    fn logic(self, logic: Logic, other: Self) -> Self {
        Self(push(Node::Logic(logic, self.0, other.0)))
    }
}

impl BitAnd for TracedMask {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.logic(Logic::And, other)
    }
}

impl BitOr for TracedMask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.logic(Logic::Or, other)
    }
}

impl BitXor for TracedMask {
    type Output = Self;
    fn bitxor(self, other: Self) -> Self {
        self.logic(Logic::Xor, other)
    }
}

impl Not for TracedMask {
    type Output = Self;
    fn not(self) -> Self {
        Self(push(Node::Unary(Unary::Not, self.0)))
    }
}

/// Methods that are a node each.
macro_rules! nodes {
    (unary: $($name:ident $op:ident),*) => {$(
        fn $name(self) -> Self {
            self.unary(Unary::$op)
        }
    )*};
    (binary: $($name:ident $op:ident),*) => {$(
        fn $name(self, other: Self) -> Self {
            self.binary(Binary::$op, other)
        }
    )*};
    (compare: $($name:ident $op:ident),*) => {$(
        fn $name(self, other: Self) -> TracedMask {
            self.compare(Compare::$op, other)
        }
    )*};
}

/// What numbers have.
macro_rules! number {
    ($type:ident) => {
        type Mask = TracedMask;
        const ZERO: Self = Self::Constant(<$type as Value>::ZERO);
        const ONE: Self = Self::Constant(<$type as Value>::ONE);
        const LOWEST: Self = Self::Constant(<$type as Value>::LOWEST);
        const HIGHEST: Self = Self::Constant(<$type as Value>::HIGHEST);
        fn select(mask: TracedMask, then: Self, otherwise: Self) -> Self {
            Self::Node(push(Node::Select(mask.0, then.id(), otherwise.id())))
        }
        nodes!(compare: eq Equal, ne NotEqual, lt Less, le LessOrEqual, gt Greater, ge GreaterOrEqual);
        nodes!(binary: add Add, sub Sub, mul Mul);
        nodes!(unary: neg Neg, abs Abs);
    };
}

macro_rules! float {
    ($type:ident: $($math:tt)*) => {
        impl Value for Traced<$type> {
            number!($type);
            fn is_nan(self) -> TracedMask {
                self.ne(self)
            }
            fn is_infinite(self) -> TracedMask {
                self.abs().eq(Self::HIGHEST)
            }
            fn is_sign_negative(self) -> TracedMask {
                Self::ONE.copysign(self).lt(Self::ZERO)
            }
            nodes!(unary: floor Floor, ceil Ceil, trunc Trunc, round_even RoundEven);
            nodes!(binary: max Max, min Min);
            fn raised(self, exponent: Self) -> Self {
                raised(self, exponent)
            }
        }

        impl Numeric for Traced<$type> {
            nodes!(binary: div_floor DivFloor, div_trunc DivTrunc, fmod Fmod, pow Pow);
        }

        impl Floating for Traced<$type> {
            const EPSILON: Self = Self::Constant($type::EPSILON);
            const NAN: Self = Self::Constant($type::NAN);
            fn from_f64(value: f64) -> Self {
                Self::Constant(value as $type)
            }
            fn mul_add(self, a: Self, b: Self) -> Self {
                Self::Node(push(Node::MulAdd(self.id(), a.id(), b.id())))
            }
            nodes!(binary: div Div, copysign CopySign, atan2 Atan2, hypot Hypot);
            nodes!(unary: sqrt Sqrt, exp2 Exp2, exp_m1 ExpM1, ln_1p Ln1p, log2 Log2, log10 Log10, erfc Erfc, erfinv Erfinv, sin Sin,
                cos Cos, tan Tan, asin Asin, acos Acos, atan Atan, sinh Sinh, cosh Cosh, asinh Asinh, acosh Acosh,
                atanh Atanh, frexp_mantissa FrexpMantissa, frexp_exponent FrexpExponent);
            $($math)*
        }
    };
}

/// The functions that `math::single` writes over every value.
macro_rules! written {
    ($($name:ident),*) => {$(
        fn $name(self) -> Self {
            single::$name(self)
        }
    )*};
}

float!(f32: written!(exp, exp_of_negative, ln, tanh, erf););
float!(f64: nodes!(unary: exp Exp, exp_of_negative ExpOfNegative, ln Ln, tanh Tanh, erf Erf););

impl Bits for Traced<f32> {
    type Word = TracedWord;
    fn single(value: f32) -> Self {
        Self::Constant(value)
    }
    fn to_bits(self) -> TracedWord {
        TracedWord(self.id())
    }
    fn from_bits(word: TracedWord) -> Self {
        Self::Node(word.0)
    }
    fn whole(word: TracedWord) -> Self {
        Self::Node(word.0).unary(Unary::Whole)
    }
    fn scaled(self, whole: Self, word: TracedWord) -> Self {
        Self::Node(push(Node::Scaled(self.id(), whole.id(), word.0)))
    }
}

/// The bits of an f32 within a recording.
#[derive(Clone, Copy)]
pub struct TracedWord(Id);

impl Word for TracedWord {
    type Mask = TracedMask;
    fn literal(value: u32) -> Self {
        Self(push(Node::Word(value)))
    }
    fn select(mask: TracedMask, then: Self, otherwise: Self) -> Self {
        Self(push(Node::Select(mask.0, then.0, otherwise.0)))
    }
    fn plus(self, other: Self) -> Self {
        Self(push(Node::Binary(Binary::Plus, self.0, other.0)))
    }
    fn minus(self, other: Self) -> Self {
        Self(push(Node::Binary(Binary::Minus, self.0, other.0)))
    }
    fn shifted_left<const COUNT: u32>(self) -> Self {
        Self(push(Node::ShiftedLeft(self.0, COUNT)))
    }
    fn shifted_right<const COUNT: u32>(self) -> Self {
        Self(push(Node::ShiftedRight(self.0, COUNT)))
    }
}

/// What no whole number is, and what rounding leaves of one.
macro_rules! whole {
    () => {
        fn is_nan(self) -> TracedMask {
            self.ne(self)
        }
        fn is_infinite(self) -> TracedMask {
            self.ne(self)
        }
        fn floor(self) -> Self {
            self
        }
        fn ceil(self) -> Self {
            self
        }
        fn trunc(self) -> Self {
            self
        }
        fn round_even(self) -> Self {
            self
        }
    };
}

macro_rules! integer {
    ($($type:ident),*) => {$(
        impl Value for Traced<$type> {
            number!($type);
            whole!();
            fn is_sign_negative(self) -> TracedMask {
                self.lt(Self::ZERO)
            }
            fn raised(self, exponent: Self) -> Self {
                self.pow(exponent)
            }
        }

        impl Numeric for Traced<$type> {
            nodes!(binary: div_floor DivFloor, div_trunc DivTrunc, fmod Fmod, pow Pow);
        }

        impl Bitwise for Traced<$type> {
            nodes!(unary: not Invert);
            nodes!(binary: and And, or Or, xor Xor, shift_left ShiftLeft, shift_right ShiftRight);
        }
    )*};
}
integer!(u8, i8, i16, i32, i64);

impl Traced<Bool> {
    fn mask(self) -> TracedMask {
        TracedMask(self.id())
    }
}

impl From<TracedMask> for Traced<Bool> {
    fn from(mask: TracedMask) -> Self {
        Self::Node(mask.0)
    }
}

/// Values of bool are masks.
impl Value for Traced<Bool> {
    type Mask = TracedMask;
    const ZERO: Self = Self::Constant(Bool(0));
    const ONE: Self = Self::Constant(Bool(1));
    const LOWEST: Self = Self::ZERO;
    const HIGHEST: Self = Self::ONE;
    fn select(mask: TracedMask, then: Self, otherwise: Self) -> Self {
        ((mask & then.mask()) | (!mask & otherwise.mask())).into()
    }
    fn eq(self, other: Self) -> TracedMask {
        !self.ne(other)
    }
    fn ne(self, other: Self) -> TracedMask {
        self.mask() ^ other.mask()
    }
    fn lt(self, other: Self) -> TracedMask {
        !self.mask() & other.mask()
    }
    fn le(self, other: Self) -> TracedMask {
        !self.mask() | other.mask()
    }
    fn gt(self, other: Self) -> TracedMask {
        other.lt(self)
    }
    fn ge(self, other: Self) -> TracedMask {
        other.le(self)
    }
    whole!();
    fn is_sign_negative(self) -> TracedMask {
        self.ne(self)
    }
    fn is_true(self) -> TracedMask {
        self.mask()
    }
    fn from_mask(mask: TracedMask) -> Self {
        mask.into()
    }
    fn add(self, other: Self) -> Self {
        (self.mask() | other.mask()).into()
    }
    fn sub(self, other: Self) -> Self {
        (self.mask() ^ other.mask()).into()
    }
    fn mul(self, other: Self) -> Self {
        (self.mask() & other.mask()).into()
    }
    fn neg(self) -> Self {
        self
    }
    fn abs(self) -> Self {
        self
    }
    fn max(self, other: Self) -> Self {
        self.add(other)
    }
    fn min(self, other: Self) -> Self {
        self.mul(other)
    }
    fn raised(self, exponent: Self) -> Self {
        (self.mask() | !exponent.mask()).into()
    }
}

impl Bitwise for Traced<Bool> {
    fn not(self) -> Self {
        (!self.mask()).into()
    }
    fn and(self, other: Self) -> Self {
        self.mul(other)
    }
    fn or(self, other: Self) -> Self {
        self.add(other)
    }
    fn xor(self, other: Self) -> Self {
        self.sub(other)
    }
    fn shift_left(self, count: Self) -> Self {
        (self.mask() & !count.mask()).into()
    }
    fn shift_right(self, count: Self) -> Self {
        self.shift_left(count)
    }
}
