//! Straight-line code over vectors of f32 and masks, before it has registers. Equal operations are
//! one; what does not depend on the elements is set apart, to run before the loop.

use std::collections::HashMap;

use rustorch_kernels::dtype::DType;

/// An index into [`Code::ops`].
pub type Id = usize;

/// The number of a pointer that the kernel is called with.
pub type Slot = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Compare {
    // The immediates of `vcmpps`, none of which signals.
    Equal = 0,
    Less = 17,
    LessOrEqual = 18,
    Unordered = 3,
    NotEqual = 4,
    Greater = 30,
    GreaterOrEqual = 29,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// `vmaxps`: the second where either is NaN or both are zero.
    Max,
    /// `vminps`, as `Max`.
    Min,
    And,
    Xor,
    // Of the bits, as whole numbers.
    IntAdd,
    IntSub,
    /// The first times two to the power of the second, a whole number, rounded once (AVX-512).
    Scale,
}

impl Binary {
    pub fn commutes(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::And | Self::Xor | Self::IntAdd)
    }
}

/// Products that a third operand joins before they are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// `a * b + c`
    Add,
    /// `a * b - c`
    Sub,
    /// `c - a * b`
    From,
}

/// Of the bits, as whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shift {
    Left,
    /// Keeps the sign.
    Right,
}

/// To a whole number, by the immediates of `vroundps` that raise nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Round {
    ToEven = 8,
    Down = 9,
    Up = 10,
    ToZero = 11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaskBinary {
    And,
    Or,
    Xor,
}

/// A half type: in memory alone, and a number of f32 in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    F16,
    BF16,
}

impl Half {
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::BF16),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Of the turn's vector of this number.
    Load(Slot, usize),
    LoadHalf(Half, Slot, usize),
    /// The same element for all: read once.
    Uniform(Slot),
    UniformHalf(Half, Slot),
    /// By its bits.
    Constant(u32),
    Two(Binary, Id, Id),
    Three(Product, Id, Id, Id),
    Shifted(Shift, Id, u32),
    /// A whole number's value.
    ToFloat(Id),
    Sqrt(Id),
    Round(Round, Id),
    /// To the nearest f16.
    RoundToF16(Id),
    /// The first where the third's bits are set, else the second's (AVX-512).
    Bits(Id, Id, Id),
    /// The third where the mask is set, else the second: `Select(mask, otherwise, then)`.
    Select(Id, Id, Id),
    // Masks.
    LoadMask(Slot, usize),
    UniformMask(Slot),
    Test(Compare, Id, Id),
    Masks(MaskBinary, Id, Id),
    Store(Slot, usize, Id),
    /// Of numbers that the half type has.
    StoreHalf(Half, Slot, usize, Id),
    StoreMask(Slot, usize, Id),
    /// A vector that lasts from turn to turn: what the memory of a slot holds before the loop, and that of the
    /// next slot gets after it.
    Accumulator(Slot, usize),
    /// Makes the second the accumulator's value for the next turn.
    Keep(Id, Id),
    /// The elements from this one on as the first ones, as many again.
    From(usize, Id),
    /// The first element alone, to the slot's.
    StoreFirst(Slot, Id),
}

impl Op {
    pub fn inputs(&self) -> impl Iterator<Item = Id> {
        let inputs: [Option<Id>; 3] = match *self {
            Self::Load(..)
            | Self::LoadHalf(..)
            | Self::Uniform(_)
            | Self::UniformHalf(..)
            | Self::Constant(_)
            | Self::LoadMask(..)
            | Self::UniformMask(_)
            | Self::Accumulator(..) => [None; 3],
            Self::Sqrt(a)
            | Self::Round(_, a)
            | Self::RoundToF16(a)
            | Self::StoreHalf(.., a)
            | Self::Shifted(_, a, _)
            | Self::ToFloat(a)
            | Self::Store(_, _, a)
            | Self::StoreMask(_, _, a)
            | Self::From(_, a)
            | Self::StoreFirst(_, a) => [Some(a), None, None],
            Self::Two(_, a, b) | Self::Test(_, a, b) | Self::Masks(_, a, b) | Self::Keep(a, b) => {
                [Some(a), Some(b), None]
            }
            Self::Three(_, a, b, c) | Self::Bits(a, b, c) | Self::Select(a, b, c) => [Some(a), Some(b), Some(c)],
        };
        inputs.into_iter().flatten()
    }

    pub fn is_mask(&self) -> bool {
        matches!(self, Self::LoadMask(..) | Self::UniformMask(_) | Self::Test(..) | Self::Masks(..))
    }

    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// Whether it has no result.
    pub fn is_store(&self) -> bool {
        matches!(
            self,
            Self::Store(..) | Self::StoreHalf(..) | Self::StoreMask(..) | Self::StoreFirst(..) | Self::Keep(..)
        )
    }

    /// Whether it is the same in every turn, by itself; most ops are where their inputs are.
    fn is_fixed(&self) -> Option<bool> {
        match self {
            Self::Uniform(_) | Self::UniformHalf(..) | Self::Constant(_) | Self::UniformMask(_) => Some(true),
            Self::Load(..) | Self::LoadHalf(..) | Self::LoadMask(..) | Self::Accumulator(..) => Some(false),
            op if op.is_store() => Some(false),
            _ => None,
        }
    }
}

pub struct Code {
    pub ops: Vec<Op>,
    /// Whether the code is for AVX-512.
    pub wide: bool,
    /// Whether the ops of a turn's vectors run in turns, so that one's latency is another's time.
    pub in_turns: bool,
    known: HashMap<Op, Id>,
    /// How far down its vector's code each op is, at least as far as its inputs.
    depth: Vec<usize>,
    next_depth: usize,
    /// The first op that runs after the loop.
    after: usize,
}

impl Code {
    pub fn new(wide: bool) -> Self {
        Self {
            ops: Vec::new(),
            wide,
            in_turns: true,
            known: HashMap::new(),
            depth: Vec::new(),
            next_depth: 0,
            after: usize::MAX,
        }
    }

    /// What is pushed from here on is for the turn's next vector.
    pub fn begin_vector(&mut self) {
        self.next_depth = 0;
    }

    /// What is pushed from here on runs after the loop, once a row.
    pub fn end_loop(&mut self) {
        self.after = self.ops.len();
        // What was computed of an accumulator in the loop is not of what it is after it.
        self.known.retain(|op, _| op.is_constant());
    }

    pub fn is_after(&self, id: Id) -> bool {
        id >= self.after
    }

    pub fn push(&mut self, op: Op) -> Id {
        self.next_depth += 1;
        if let Some(&id) = self.known.get(&op) {
            return id;
        }
        let depth = op.inputs().map(|input| self.depth[input]).fold(self.next_depth, usize::max);
        self.ops.push(op);
        self.depth.push(depth);
        let id = self.ops.len() - 1;
        self.known.insert(op, id);
        id
    }

    /// The ops that are the same in every turn.
    pub fn fixed(&self) -> Vec<bool> {
        let mut fixed = Vec::with_capacity(self.ops.len());
        for op in &self.ops {
            fixed.push(op.is_fixed().unwrap_or_else(|| op.inputs().all(|input| fixed[input])));
        }
        fixed
    }

    /// The ops that something stored is made of, and the stores.
    fn needed(&self) -> Vec<bool> {
        let mut needed: Vec<bool> = self.ops.iter().map(Op::is_store).collect();
        for (id, op) in self.ops.iter().enumerate().rev() {
            if needed[id] {
                op.inputs().for_each(|input| needed[input] = true);
            }
        }
        needed
    }

    /// All ops that are needed, in the order in which they run.
    pub fn order(&self) -> Vec<Id> {
        let needed = self.needed();
        let mut order: Vec<Id> = (0..self.ops.len()).filter(|&id| needed[id]).collect();
        if self.in_turns {
            order.sort_by_key(|&id| self.depth[id]);
        }
        order
    }

    pub fn constant(&mut self, value: f32) -> Id {
        self.bits(value.to_bits())
    }

    pub fn bits(&mut self, bits: u32) -> Id {
        self.push(Op::Constant(bits))
    }

    pub fn two(&mut self, op: Binary, a: Id, b: Id) -> Id {
        self.push(Op::Two(op, a, b))
    }

    pub fn test(&mut self, compare: Compare, a: Id, b: Id) -> Id {
        self.push(Op::Test(compare, a, b))
    }

    pub fn masks(&mut self, op: MaskBinary, a: Id, b: Id) -> Id {
        self.push(Op::Masks(op, a, b))
    }

    pub fn select(&mut self, mask: Id, then: Id, otherwise: Id) -> Id {
        self.push(Op::Select(mask, otherwise, then))
    }

    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.two(Binary::Add, a, b)
    }

    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.two(Binary::Mul, a, b)
    }

    pub fn neg(&mut self, a: Id) -> Id {
        let sign = self.constant(-0.0);
        self.two(Binary::Xor, a, sign)
    }

    pub fn abs(&mut self, a: Id) -> Id {
        let magnitude = self.bits(!SIGN);
        self.two(Binary::And, a, magnitude)
    }

    /// The magnitude of the first with the sign of the second.
    pub fn copy_sign(&mut self, a: Id, sign: Id) -> Id {
        if self.wide {
            let magnitude = self.bits(!SIGN);
            return self.push(Op::Bits(a, sign, magnitude));
        }
        let (magnitude, only_sign) = (self.abs(a), self.bits(SIGN));
        let sign = self.two(Binary::And, sign, only_sign);
        self.two(Binary::Xor, magnitude, sign)
    }

    /// `Value::max`: `b` where it is greater or NaN, else `a`.
    pub fn max(&mut self, a: Id, b: Id) -> Id {
        self.pick(Binary::Max, a, b)
    }

    /// `Value::min`: `b` where it is less or NaN, else `a`.
    pub fn min(&mut self, a: Id, b: Id) -> Id {
        self.pick(Binary::Min, a, b)
    }

    fn pick(&mut self, op: Binary, a: Id, b: Id) -> Id {
        // The instruction gives its second operand for NaN and for equal zeros: right with
        // `a` as the second, but where `b` is NaN.
        let better = self.two(op, b, a);
        if matches!(self.ops[b], Op::Constant(bits) if !f32::from_bits(bits).is_nan()) {
            return better;
        }
        let nan = self.test(Compare::Unordered, b, b);
        self.select(nan, b, better)
    }

    /// To the nearest number that a half type has, and to even between two.
    pub fn round(&mut self, half: Half, a: Id) -> Id {
        if half == Half::F16 {
            return self.push(Op::RoundToF16(a));
        }
        // The upper half of the bits, and one more where the lower half says so.
        let [below_half, one, upper] = [0x7fff, 1, 0xffff_0000].map(|bits| self.bits(bits));
        let shifted = self.push(Op::Shifted(Shift::Right, a, 16));
        let odd = self.two(Binary::And, shifted, one);
        let lifted = self.two(Binary::IntAdd, a, below_half);
        let lifted = self.two(Binary::IntAdd, lifted, odd);
        let rounded = self.two(Binary::And, lifted, upper);
        let (is_nan, nan) = (self.test(Compare::Unordered, a, a), self.constant(f32::NAN));
        self.select(is_nan, nan, rounded)
    }

    /// The mask of what is not zero (NaN is not).
    pub fn is_true(&mut self, a: Id) -> Id {
        let zero = self.constant(0.0);
        self.test(Compare::NotEqual, a, zero)
    }

    /// The mask that a number is made of by [`Code::mask_to_float`].
    pub fn mask_behind(&self, number: Id) -> Option<Id> {
        let is = |id: Id, value: f32| matches!(self.ops[id], Op::Constant(bits) if bits == value.to_bits());
        match self.ops[number] {
            Op::Select(mask, otherwise, then) if is(then, 1.0) && is(otherwise, 0.0) => Some(mask),
            _ => None,
        }
    }

    /// A mask as 1.0 and 0.0.
    pub fn mask_to_float(&mut self, mask: Id) -> Id {
        let (one, zero) = (self.constant(1.0), self.constant(0.0));
        self.select(mask, one, zero)
    }
}

const SIGN: u32 = 1 << 31;
