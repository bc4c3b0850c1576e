//! What an expression is made of.

/// A node's place in [`super::Trace::nodes`].
pub type Id = usize;

/// An enumeration whose members have a name in the text of a trace.
macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($(#[$member_doc:meta])* $member:ident $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind { $($(#[$member_doc])* $member,)* }

        impl $kind {
            pub const ALL: &[Self] = &[$(Self::$member,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$member => $name,)* }
            }

            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.name() == name)
            }
        }
    };
}

named! {
    /// Of one value. Those after the square root are functions that machine code does not have.
    Unary {
        Neg "neg",
        Abs "abs",
        Floor "floor",
        Ceil "ceil",
        Trunc "trunc",
        RoundEven "round_even",
        /// A mask's opposite.
        Not "not",
        /// The value of a word, as a signed number.
        Whole "whole",
        Sqrt "sqrt",
        Exp "exp",
        ExpOfNegative "exp_of_negative",
        Exp2 "exp2",
        ExpM1 "exp_m1",
        Ln "ln",
        Ln1p "ln_1p",
        Log2 "log2",
        Log10 "log10",
        Tanh "tanh",
        Erf "erf",
        Erfc "erfc",
        Erfinv "erfinv",
        Sin "sin",
        Cos "cos",
        Tan "tan",
        Asin "asin",
        Acos "acos",
        Atan "atan",
        Sinh "sinh",
        Cosh "cosh",
        Asinh "asinh",
        Acosh "acosh",
        Atanh "atanh",
        FrexpMantissa "frexp_mantissa",
        FrexpExponent "frexp_exponent",
        /// An integer's bits.
        Invert "invert",
    }
}

named! {
    /// Of two values.
    Binary {
        Add "add",
        Sub "sub",
        Mul "mul",
        Div "div",
        /// The second where it is greater or NaN, else the first.
        Max "max",
        /// The second where it is less or NaN, else the first.
        Min "min",
        /// The first's magnitude with the second's sign.
        CopySign "copysign",
        // Of words.
        Plus "plus",
        Minus "minus",
        DivFloor "div_floor",
        DivTrunc "div_trunc",
        Fmod "fmod",
        Pow "pow",
        Atan2 "atan2",
        Hypot "hypot",
        // Of integers' bits.
        And "and",
        Or "or",
        Xor "xor",
        ShiftLeft "shift_left",
        ShiftRight "shift_right",
    }
}

named! {
    /// A mask of two values.
    Compare {
        Equal "eq",
        NotEqual "ne",
        Less "lt",
        LessOrEqual "le",
        Greater "gt",
        GreaterOrEqual "ge",
    }
}

named! {
    /// A mask of two masks.
    Logic {
        And "both",
        Or "either",
        Xor "one_of",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    Input(usize),
    /// A number that the launch brings.
    Scalar(usize),
    /// By its bits.
    Constant(u64),
    Word(u32),
    Unary(Unary, Id),
    Binary(Binary, Id, Id),
    /// `a * b + c`, rounded once.
    MulAdd(Id, Id, Id),
    Compare(Compare, Id, Id),
    Logic(Logic, Id, Id),
    /// The second where the mask is set, else the third.
    Select(Id, Id, Id),
    /// Of a word's bits.
    ShiftedLeft(Id, u32),
    /// Keeps the sign.
    ShiftedRight(Id, u32),
    /// The first times two to the power of the second; the third has that power's bits. See `Bits::scaled`.
    Scaled(Id, Id, Id),
}

/// Operations of a vector an element: of a root or a quotient, and of a function.
const ROOT: usize = 6;
const VECTORS: usize = 20;

impl Node {
    pub fn operands(&self) -> impl Iterator<Item = Id> {
        let operands: [Option<Id>; 3] = match *self {
            Self::Input(_) | Self::Scalar(_) | Self::Constant(_) | Self::Word(_) => [None; 3],
            Self::Unary(_, a) | Self::ShiftedLeft(a, _) | Self::ShiftedRight(a, _) => [Some(a), None, None],
            Self::Binary(_, a, b) | Self::Compare(_, a, b) | Self::Logic(_, a, b) => [Some(a), Some(b), None],
            Self::MulAdd(a, b, c) | Self::Select(a, b, c) | Self::Scaled(a, b, c) => [Some(a), Some(b), Some(c)],
        };
        operands.into_iter().flatten()
    }

    /// Whether it is a function that is not written over values.
    pub fn is_function(&self) -> bool {
        self.cost() >= VECTORS
    }

    /// Operations of a vector an element.
    pub fn cost(&self) -> usize {
        match self {
            Self::Unary(op, _) => match op {
                Unary::Sqrt => ROOT,
                Unary::Exp2 | Unary::ExpM1 | Unary::Sin | Unary::Cos | Unary::Exp | Unary::ExpOfNegative => VECTORS,
                Unary::Ln | Unary::Ln1p | Unary::Log2 | Unary::Log10 | Unary::Tan | Unary::Atan | Unary::Atanh => {
                    VECTORS + ROOT
                }
                Unary::FrexpMantissa | Unary::FrexpExponent => VECTORS,
                Unary::Tanh | Unary::Erf | Unary::Asin | Unary::Acos | Unary::Sinh | Unary::Cosh => VECTORS + ROOT,
                Unary::Asinh | Unary::Acosh | Unary::Erfc | Unary::Erfinv => 2 * VECTORS + ROOT,
                Unary::Neg | Unary::Abs | Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::RoundEven => 1,
                Unary::Not | Unary::Whole | Unary::Invert => 1,
            },
            Self::Binary(op, ..) => match op {
                Binary::Div => ROOT,
                Binary::DivFloor | Binary::DivTrunc | Binary::Fmod | Binary::Atan2 | Binary::Hypot => VECTORS + ROOT,
                Binary::Pow => 2 * VECTORS,
                _ => 1,
            },
            _ => 1,
        }
    }

    /// The same, of other operands.
    pub fn with_operands(self, place: impl Fn(Id) -> Id) -> Self {
        match self {
            Self::Input(_) | Self::Scalar(_) | Self::Constant(_) | Self::Word(_) => self,
            Self::Unary(op, a) => Self::Unary(op, place(a)),
            Self::Binary(op, a, b) => Self::Binary(op, place(a), place(b)),
            Self::MulAdd(a, b, c) => Self::MulAdd(place(a), place(b), place(c)),
            Self::Compare(compare, a, b) => Self::Compare(compare, place(a), place(b)),
            Self::Logic(logic, a, b) => Self::Logic(logic, place(a), place(b)),
            Self::Select(a, b, c) => Self::Select(place(a), place(b), place(c)),
            Self::ShiftedLeft(a, count) => Self::ShiftedLeft(place(a), count),
            Self::ShiftedRight(a, count) => Self::ShiftedRight(place(a), count),
            Self::Scaled(a, b, c) => Self::Scaled(place(a), place(b), place(c)),
        }
    }
}
