//! From a row's trace to machine code: the same operations in the same order, so the same bits.
//!
//! What the launch's scalars decide is decided here. A trace with a function that machine code does not have runs
//! the row's block loop.

use rustorch_kernels::dtype::DType;
use rustorch_kernels::element::Bool;
use rustorch_kernels::ops::row::{SCALARS, Scalars};
use rustorch_kernels::trace::{self, Evaluate, Logic, Node, Trace, Unary};

use super::micro::{Binary, Code, Compare, Id, MaskBinary, Op, Product, Round, Shift};

/// Bits of the mantissa of an f32.
const MANTISSA: u32 = 23;

/// A node's result.
#[derive(Clone, Copy)]
enum Lowered {
    Code(Id),
    /// The bits of a constant, or 0 and 1 of a mask.
    Known(u64),
}

/// The result of `trace` over `inputs`: a mask where the trace says so. None where machine code has not all of its
/// operations.
pub fn lower(trace: &Trace, code: &mut Code, inputs: &[Id], scalars: &Scalars) -> Option<Id> {
    match trace.dtype {
        DType::F32 => Lowering::<f32>::new(trace, code, inputs, scalars).result(),
        DType::Bool => Lowering::<Bool>::new(trace, code, inputs, scalars).result(),
        _ => None,
    }
}

struct Lowering<'a, T> {
    trace: &'a Trace,
    code: &'a mut Code,
    inputs: &'a [Id],
    scalars: [T; SCALARS],
    done: Vec<Option<Lowered>>,
}

impl<'a, T: Evaluate> Lowering<'a, T> {
    fn new(trace: &'a Trace, code: &'a mut Code, inputs: &'a [Id], scalars: &Scalars) -> Self {
        let scalars = std::array::from_fn(|at| T::from_scalar(scalars.floats[at], scalars.ints[at]));
        Self { trace, code, inputs, scalars, done: vec![None; trace.nodes.len()] }
    }

    fn result(mut self) -> Option<Id> {
        let result = self.node(self.trace.result)?;
        Some(if self.trace.is_mask { self.mask(result) } else { self.value(result) })
    }

    fn node(&mut self, node: trace::Id) -> Option<Lowered> {
        if let Some(done) = self.done[node] {
            return Some(done);
        }
        let lowered = self.fresh(node)?;
        self.done[node] = Some(lowered);
        Some(lowered)
    }

    fn fresh(&mut self, node: trace::Id) -> Option<Lowered> {
        let node = self.trace.nodes[node];
        if let Node::Input(input) = node {
            return self.inputs.get(input).map(|&id| Lowered::Code(id));
        }
        if let Node::Select(mask, then, otherwise) = node {
            // What is not chosen is not needed.
            if let Lowered::Known(mask) = self.node(mask)? {
                return self.node(if mask == 1 { then } else { otherwise });
            }
        }
        let mut operands = [Lowered::Known(0); 3];
        let mut count = 0;
        for operand in node.operands() {
            operands[count] = self.node(operand)?;
            count += 1;
        }
        let words = operands.map(|operand| if let Lowered::Known(word) = operand { Some(word) } else { None });
        if words[..count].iter().all(Option::is_some) {
            let words = words.map(Option::unwrap_or_default);
            return T::node(&node, &words[..count], &[], &self.scalars).map(Lowered::Known);
        }
        match node {
            Node::Unary(op, operand) => self.unary(op, operand, operands[0]),
            Node::Binary(op, ..) => self.binary(op, operands),
            Node::MulAdd(a, b, c) => self.mul_add([a, b, c], operands),
            Node::Compare(compare, ..) => Some(self.compare(compare, operands)),
            Node::Logic(logic, ..) => Some(self.logic(logic, operands)),
            Node::Select(mask, then, otherwise) => Some(self.select(mask, then, otherwise, operands)),
            Node::ShiftedLeft(_, count) => Some(self.shifted(Shift::Left, operands[0], count)),
            Node::ShiftedRight(_, count) => Some(self.shifted(Shift::Right, operands[0], count)),
            Node::Scaled(..) => Some(self.scaled(operands)),
            Node::Input(_) | Node::Scalar(_) | Node::Constant(_) | Node::Word(_) => None,
        }
    }

    fn value(&mut self, lowered: Lowered) -> Id {
        match lowered {
            Lowered::Code(id) => id,
            Lowered::Known(word) => self.code.bits(word as u32),
        }
    }

    fn mask(&mut self, lowered: Lowered) -> Id {
        match lowered {
            Lowered::Code(id) => id,
            Lowered::Known(mask) => {
                let zero = self.code.bits(0);
                self.code.test(if mask == 1 { Compare::Equal } else { Compare::NotEqual }, zero, zero)
            }
        }
    }

    fn unary(&mut self, op: Unary, operand: trace::Id, a: Lowered) -> Option<Lowered> {
        if op == Unary::Not {
            return Some(self.not(operand, a));
        }
        let a = self.value(a);
        let round = |round| Op::Round(round, a);
        Some(Lowered::Code(match op {
            Unary::Neg => self.code.neg(a),
            Unary::Abs => self.code.abs(a),
            Unary::Sqrt => self.code.push(Op::Sqrt(a)),
            Unary::Whole => self.code.push(Op::ToFloat(a)),
            Unary::Floor => self.code.push(round(Round::Down)),
            Unary::Ceil => self.code.push(round(Round::Up)),
            Unary::Trunc => self.code.push(round(Round::ToZero)),
            Unary::RoundEven => self.code.push(round(Round::ToEven)),
            _ => return None,
        }))
    }

    /// The opposite of a test of equality is a test; of others it is not, for NaN.
    fn not(&mut self, operand: trace::Id, a: Lowered) -> Lowered {
        let equality = match self.trace.nodes[operand] {
            Node::Compare(trace::Compare::Equal, a, b) => Some((Compare::NotEqual, a, b)),
            Node::Compare(trace::Compare::NotEqual, a, b) => Some((Compare::Equal, a, b)),
            _ => None,
        };
        if let Some((compare, a, b)) = equality
            && let (Some(a), Some(b)) = (self.done[a], self.done[b])
        {
            let (a, b) = (self.value(a), self.value(b));
            return Lowered::Code(self.code.test(compare, a, b));
        }
        let (a, all) = (self.mask(a), self.mask(Lowered::Known(1)));
        Lowered::Code(self.code.masks(MaskBinary::Xor, a, all))
    }

    fn binary(&mut self, op: trace::Binary, [a, b, _]: [Lowered; 3]) -> Option<Lowered> {
        let one = T::ONE.to_word();
        match (op, a, b) {
            // A factor of one changes nothing.
            (trace::Binary::Mul, Lowered::Known(word), other) if word == one => return Some(other),
            (trace::Binary::Mul, other, Lowered::Known(word)) if word == one => return Some(other),
            _ => {}
        }
        let (a, b) = (self.value(a), self.value(b));
        let op = match op {
            trace::Binary::Max => return Some(Lowered::Code(self.code.max(a, b))),
            trace::Binary::Min => return Some(Lowered::Code(self.code.min(a, b))),
            trace::Binary::CopySign => return Some(Lowered::Code(self.code.copy_sign(a, b))),
            trace::Binary::Add => Binary::Add,
            trace::Binary::Sub => Binary::Sub,
            trace::Binary::Mul => Binary::Mul,
            trace::Binary::Div => Binary::Div,
            trace::Binary::Plus => Binary::IntAdd,
            trace::Binary::Minus => Binary::IntSub,
            _ => return None,
        };
        Some(Lowered::Code(self.code.two(op, a, b)))
    }

    /// The instructions negate the product or what is added to it.
    fn mul_add(&mut self, nodes: [trace::Id; 3], operands: [Lowered; 3]) -> Option<Lowered> {
        let [a, b, c] = nodes.map(|node| match self.trace.nodes[node] {
            Node::Unary(Unary::Neg, negated) => self.done[negated],
            _ => None,
        });
        let (product, operands) = match (a, b, c) {
            (Some(a @ Lowered::Code(_)), None, None) => (Product::From, [a, operands[1], operands[2]]),
            (None, Some(b @ Lowered::Code(_)), None) => (Product::From, [operands[0], b, operands[2]]),
            (None, None, Some(c @ Lowered::Code(_))) => (Product::Sub, [operands[0], operands[1], c]),
            _ => (Product::Add, operands),
        };
        let [a, b, c] = operands.map(|operand| self.value(operand));
        Some(Lowered::Code(self.code.push(Op::Three(product, a, b, c))))
    }

    fn compare(&mut self, compare: trace::Compare, [a, b, _]: [Lowered; 3]) -> Lowered {
        let zero = T::ZERO.to_word();
        if let (trace::Compare::NotEqual, Lowered::Code(a), Lowered::Known(word)) = (compare, a, b)
            && word == zero
            && let Some(mask) = self.code.mask_behind(a)
        {
            return Lowered::Code(mask);
        }
        let compare = match compare {
            trace::Compare::Equal => Compare::Equal,
            trace::Compare::NotEqual => Compare::NotEqual,
            trace::Compare::Less => Compare::Less,
            trace::Compare::LessOrEqual => Compare::LessOrEqual,
            trace::Compare::Greater => Compare::Greater,
            trace::Compare::GreaterOrEqual => Compare::GreaterOrEqual,
        };
        let (a, b) = (self.value(a), self.value(b));
        Lowered::Code(self.code.test(compare, a, b))
    }

    fn logic(&mut self, logic: Logic, [a, b, _]: [Lowered; 3]) -> Lowered {
        let (known, other) = match (a, b) {
            (Lowered::Known(known), other) | (other, Lowered::Known(known)) => (Some(known), other),
            _ => (None, a),
        };
        match (logic, known) {
            (Logic::And, Some(1)) | (Logic::Or | Logic::Xor, Some(0)) => return other,
            (Logic::And, Some(_)) => return Lowered::Known(0),
            (Logic::Or, Some(_)) => return Lowered::Known(1),
            _ => {}
        }
        let op = match logic {
            Logic::And => MaskBinary::And,
            Logic::Or => MaskBinary::Or,
            Logic::Xor => MaskBinary::Xor,
        };
        let (a, b) = (self.mask(a), self.mask(b));
        Lowered::Code(self.code.masks(op, a, b))
    }

    fn select(&mut self, mask: trace::Id, then: trace::Id, otherwise: trace::Id, operands: [Lowered; 3]) -> Lowered {
        let [chosen, first, second] = operands;
        // `vmaxps` gives its second operand where the first is not greater, NaN and equal zeros included; so `vminps`.
        let extreme = match self.trace.nodes[mask] {
            Node::Compare(trace::Compare::Less, x, bound) if (bound, x) == (then, otherwise) => Some(Binary::Max),
            Node::Compare(trace::Compare::Greater, x, bound) if (bound, x) == (then, otherwise) => Some(Binary::Min),
            _ => None,
        };
        let (first, second) = (self.value(first), self.value(second));
        if let Some(op) = extreme {
            return Lowered::Code(self.code.two(op, first, second));
        }
        let chosen = self.mask(chosen);
        Lowered::Code(self.code.select(chosen, first, second))
    }

    fn shifted(&mut self, shift: Shift, a: Lowered, count: u32) -> Lowered {
        let a = self.value(a);
        Lowered::Code(self.code.push(Op::Shifted(shift, a, count)))
    }

    fn scaled(&mut self, operands: [Lowered; 3]) -> Lowered {
        let [value, whole, word] = operands.map(|operand| self.value(operand));
        if self.code.wide {
            // One rounding, as where the two steps below are needed.
            return Lowered::Code(self.code.two(Binary::Scale, value, whole));
        }
        let half = self.code.push(Op::Shifted(Shift::Right, word, 1));
        let rest = self.code.two(Binary::IntSub, word, half);
        let [half, rest] = [half, rest].map(|exponent| self.code.push(Op::Shifted(Shift::Left, exponent, MANTISSA)));
        let value = self.code.mul(value, half);
        Lowered::Code(self.code.mul(value, rest))
    }
}
