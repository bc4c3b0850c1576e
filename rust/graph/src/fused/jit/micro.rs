//! Straight-line code over vectors of f32 and masks, before it has registers. Equal operations are
//! one; what does not depend on the elements is set apart, to run before the loop.

use std::collections::HashMap;

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
pub enum Op {
    /// Of the turn's vector of this number.
    Load(Slot, usize),
    /// The same element for all: read once.
    Uniform(Slot),
    /// By its bits.
    Constant(u32),
    Add(Id, Id),
    Sub(Id, Id),
    Mul(Id, Id),
    Div(Id, Id),
    /// `vmaxps`: the second where either is NaN or both are zero.
    Max(Id, Id),
    Sqrt(Id),
    And(Id, Id),
    Xor(Id, Id),
    /// The third where the mask is set, else the second: `Select(mask, otherwise, then)`.
    Select(Id, Id, Id),
    // Masks.
    LoadMask(Slot, usize),
    Test(Compare, Id, Id),
    MaskAnd(Id, Id),
    MaskOr(Id, Id),
    MaskXor(Id, Id),
    Store(Slot, Id),
    StoreMask(Slot, Id),
    /// A vector that lasts from turn to turn: what the memory holds before the loop and gets after it.
    Accumulator(Slot, usize),
    /// Makes the second the accumulator's value for the next turn.
    Keep(Id, Id),
}

impl Op {
    pub fn inputs(&self) -> impl Iterator<Item = Id> {
        let inputs: [Option<Id>; 3] = match *self {
            Self::Load(..) | Self::Uniform(_) | Self::Constant(_) | Self::LoadMask(..) | Self::Accumulator(..) => {
                [None; 3]
            }
            Self::Sqrt(a) | Self::Store(_, a) | Self::StoreMask(_, a) => [Some(a), None, None],
            Self::Add(a, b)
            | Self::Sub(a, b)
            | Self::Mul(a, b)
            | Self::Div(a, b)
            | Self::Max(a, b)
            | Self::And(a, b)
            | Self::Xor(a, b)
            | Self::Test(_, a, b)
            | Self::MaskAnd(a, b)
            | Self::MaskOr(a, b)
            | Self::MaskXor(a, b)
            | Self::Keep(a, b) => [Some(a), Some(b), None],
            Self::Select(mask, otherwise, then) => [Some(mask), Some(otherwise), Some(then)],
        };
        inputs.into_iter().flatten()
    }

    pub fn is_mask(&self) -> bool {
        matches!(self, Self::LoadMask(..) | Self::Test(..) | Self::MaskAnd(..) | Self::MaskOr(..) | Self::MaskXor(..))
    }

    /// Whether it runs before the loop.
    pub fn is_before(&self) -> bool {
        matches!(self, Self::Constant(_) | Self::Uniform(_) | Self::Accumulator(..))
    }

    /// Whether it has no result.
    pub fn is_store(&self) -> bool {
        matches!(self, Self::Store(..) | Self::StoreMask(..) | Self::Keep(..))
    }
}

#[derive(Default)]
pub struct Code {
    pub ops: Vec<Op>,
    known: HashMap<Op, Id>,
}

impl Code {
    pub fn push(&mut self, op: Op) -> Id {
        if let Some(&id) = self.known.get(&op) {
            return id;
        }
        self.ops.push(op);
        let id = self.ops.len() - 1;
        self.known.insert(op, id);
        id
    }

    pub fn constant(&mut self, value: f32) -> Id {
        self.push(Op::Constant(value.to_bits()))
    }

    pub fn test(&mut self, compare: Compare, a: Id, b: Id) -> Id {
        self.push(Op::Test(compare, a, b))
    }

    pub fn select(&mut self, mask: Id, then: Id, otherwise: Id) -> Id {
        self.push(Op::Select(mask, otherwise, then))
    }

    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Add(a, b))
    }

    pub fn sub(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Sub(a, b))
    }

    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Mul(a, b))
    }

    pub fn div(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Div(a, b))
    }

    pub fn neg(&mut self, a: Id) -> Id {
        let sign = self.constant(-0.0);
        self.push(Op::Xor(a, sign))
    }

    pub fn abs(&mut self, a: Id) -> Id {
        let magnitude = self.push(Op::Constant(0x7fff_ffff));
        self.push(Op::And(a, magnitude))
    }

    /// `Element::max`: `a` where it is greater or NaN, else `b`.
    pub fn max(&mut self, a: Id, b: Id) -> Id {
        self.pick(Compare::Greater, a, b)
    }

    /// `Element::min`: `a` where it is less or NaN, else `b`.
    pub fn min(&mut self, a: Id, b: Id) -> Id {
        self.pick(Compare::Less, a, b)
    }

    fn pick(&mut self, compare: Compare, a: Id, b: Id) -> Id {
        let better = self.test(compare, a, b);
        let nan = self.test(Compare::Unordered, a, a);
        let mine = self.push(Op::MaskOr(better, nan));
        self.select(mine, a, b)
    }

    /// The mask of what is not zero (NaN is not).
    pub fn is_true(&mut self, a: Id) -> Id {
        let zero = self.constant(0.0);
        self.test(Compare::NotEqual, a, zero)
    }

    /// A mask as 1.0 and 0.0.
    pub fn mask_to_float(&mut self, mask: Id) -> Id {
        let (one, zero) = (self.constant(1.0), self.constant(0.0));
        self.select(mask, one, zero)
    }
}
