//! Traces as text: printed exactly, and read back to equal ones.
//!
//! ```text
//! float32 2 inputs
//! %0 = input 0
//! %1 = constant 0.5
//! %2 = mul %0 %1
//! return %2
//! ```

use std::fmt::{self, Display, Formatter};
use std::str::{FromStr, SplitWhitespace};

use super::Trace;
use super::node::{Binary, Compare, Id, Logic, Node, Unary};
use crate::dtype::DType;

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    pub line: usize,
    pub reason: String,
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} inputs", self.dtype.name(), self.inputs)?;
        for (id, node) in self.nodes.iter().enumerate() {
            write!(f, "%{id} = ")?;
            match *node {
                Node::Input(input) => write!(f, "input {input}")?,
                Node::Scalar(scalar) => write!(f, "scalar {scalar}")?,
                Node::Constant(word) => write!(f, "constant {}", literal(self.dtype, word))?,
                Node::Word(word) => write!(f, "word {word:#x}")?,
                Node::Unary(op, _) => f.write_str(op.name())?,
                Node::Binary(op, ..) => f.write_str(op.name())?,
                Node::MulAdd(..) => f.write_str("mul_add")?,
                Node::Compare(compare, ..) => f.write_str(compare.name())?,
                Node::Logic(logic, ..) => f.write_str(logic.name())?,
                Node::Select(..) => f.write_str("select")?,
                Node::ShiftedLeft(_, count) => write!(f, "shifted_left {count}")?,
                Node::ShiftedRight(_, count) => write!(f, "shifted_right {count}")?,
                Node::Scaled(..) => f.write_str("scaled")?,
            }
            for operand in node.operands() {
                write!(f, " %{operand}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "return{} %{}", if self.is_mask { " mask" } else { "" }, self.result)
    }
}

/// A constant as Rust writes it, which reads back to the same bits; of a NaN, its bits.
fn literal(dtype: DType, word: u64) -> String {
    let float = match dtype {
        DType::F32 => f64::from(f32::from_bits(word as u32)),
        DType::F64 => f64::from_bits(word),
        _ => return (word as i64).to_string(),
    };
    match dtype {
        _ if float.is_nan() => format!("{word:#x}"),
        DType::F32 => format!("{:?}", float as f32),
        _ => format!("{float:?}"),
    }
}

fn constant(dtype: DType, text: &str) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0x") {
        return u64::from_str_radix(bits, 16).ok();
    }
    match dtype {
        DType::F32 => text.parse().ok().map(|value: f32| value.to_bits().into()),
        DType::F64 => text.parse().ok().map(f64::to_bits),
        _ => text.parse().ok().map(|value: i64| value as u64),
    }
}

/// The operand, which an earlier line makes.
fn operand(words: &mut SplitWhitespace<'_>, line: Id) -> Option<Id> {
    let id = words.next()?.strip_prefix('%')?.parse().ok()?;
    (id < line).then_some(id)
}

fn node(dtype: DType, id: Id, words: &mut SplitWhitespace<'_>) -> Option<Node> {
    let name = words.next()?;
    if let Some(op) = Unary::of_name(name) {
        return Some(Node::Unary(op, operand(words, id)?));
    }
    if let Some(op) = Binary::of_name(name) {
        return Some(Node::Binary(op, operand(words, id)?, operand(words, id)?));
    }
    if let Some(compare) = Compare::of_name(name) {
        return Some(Node::Compare(compare, operand(words, id)?, operand(words, id)?));
    }
    if let Some(logic) = Logic::of_name(name) {
        return Some(Node::Logic(logic, operand(words, id)?, operand(words, id)?));
    }
    let mut three =
        |make: fn(Id, Id, Id) -> Node| Some(make(operand(words, id)?, operand(words, id)?, operand(words, id)?));
    match name {
        "mul_add" => three(Node::MulAdd),
        "select" => three(Node::Select),
        "scaled" => three(Node::Scaled),
        "input" => Some(Node::Input(words.next()?.parse().ok()?)),
        "scalar" => Some(Node::Scalar(words.next()?.parse().ok()?)),
        "constant" => Some(Node::Constant(constant(dtype, words.next()?)?)),
        "word" => Some(Node::Word(u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?)),
        "shifted_left" | "shifted_right" => {
            let count = words.next()?.parse().ok().filter(|&count| count < u32::BITS)?;
            let word = operand(words, id)?;
            Some(if name == "shifted_left" { Node::ShiftedLeft(word, count) } else { Node::ShiftedRight(word, count) })
        }
        _ => None,
    }
}

impl FromStr for Trace {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |line: usize, reason: &str| ParseError { line: line + 1, reason: reason.into() };
        let mut lines = text.lines().enumerate();
        let (_, head) = lines.next().ok_or_else(|| fail(0, "a trace has a first line"))?;
        let head: Vec<&str> = head.split_whitespace().collect();
        let &[dtype, inputs, "inputs"] = head.as_slice() else {
            return Err(fail(0, "expected a dtype, a number, and `inputs`"));
        };
        let dtype = DType::of_name(dtype).ok_or_else(|| fail(0, "no such dtype"))?;
        let inputs = inputs.parse().map_err(|_| fail(0, "expected the number of inputs"))?;
        let mut nodes = Vec::new();
        for (number, line) in lines {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("return") => {
                    let rest: Vec<&str> = words.collect();
                    let (is_mask, result) = match rest.as_slice() {
                        ["mask", result] => (true, *result),
                        [result] => (false, *result),
                        _ => return Err(fail(number, "expected one result")),
                    };
                    let result = result.strip_prefix('%').and_then(|id| id.parse().ok());
                    let result = result.filter(|&id: &Id| id < nodes.len());
                    let result = result.ok_or_else(|| fail(number, "no node of that number"))?;
                    return Ok(Self { dtype, inputs, nodes, result, is_mask });
                }
                Some(name) if name == format!("%{}", nodes.len()) && words.next() == Some("=") => {
                    let node = node(dtype, nodes.len(), &mut words).filter(|_| words.next().is_none());
                    nodes.push(node.ok_or_else(|| fail(number, "no such node, or not its operands"))?);
                }
                _ => return Err(fail(number, "expected the next node, or `return`")),
            }
        }
        Err(fail(text.lines().count(), "there is no `return`"))
    }
}
