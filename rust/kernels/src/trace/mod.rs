//! Expressions as data: what an op's row does to its values, recorded once and read by whoever makes machine code
//! of it, prints it or computes it.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "lists of an expression's nodes, whose number no tensor has a part in"
)]

mod evaluate;
mod node;
mod text;
mod traced;

pub use evaluate::Evaluate;
pub use node::{Binary, Compare, Id, Logic, Node, Unary};
pub use text::ParseError;
pub use traced::{Traced, TracedMask, TracedWord, record};

use crate::dtype::DType;

/// The expression of a row over one element type: nodes that read earlier ones, the last thing they need being
/// the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// What its inputs, scalars and constants are.
    pub dtype: DType,
    pub inputs: usize,
    pub nodes: Vec<Node>,
    pub result: Id,
    /// Whether the result is a mask: of a test, or of a row over bool.
    pub is_mask: bool,
}

impl Trace {
    /// The operations: what an element costs.
    pub fn operations(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.operands().count() > 0)
    }

    /// Whether it has functions, for which there is no machine code.
    pub fn has_functions(&self) -> bool {
        self.nodes.iter().any(|node| node.is_function())
    }

    /// What an element costs, in operations of a vector an element.
    pub fn cost(&self) -> usize {
        self.operations().map(Node::cost).sum()
    }

    /// Without the nodes that the result does not need.
    fn pruned(self) -> Self {
        let mut needed = vec![false; self.nodes.len()];
        needed[self.result] = true;
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if needed[id] {
                node.operands().for_each(|operand| needed[operand] = true);
            }
        }
        let mut place = vec![0; self.nodes.len()];
        let mut nodes = Vec::new();
        for (id, node) in self.nodes.iter().enumerate().filter(|&(id, _)| needed[id]) {
            place[id] = nodes.len();
            nodes.push(node.with_operands(|operand| place[operand]));
        }
        Self { result: place[self.result], nodes, ..self }
    }
}
