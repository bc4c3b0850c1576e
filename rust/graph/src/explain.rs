//! What a program does, for people: its traffic to memory, and a drawing.

use std::collections::HashMap;
use std::fmt::Write;

use crate::program::{Instruction, Operand, Place, Program};

/// How much a program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Kernels that a run launches.
    pub instructions: usize,
    /// Bytes that kernels read from and write to buffers: each operand counts once, and an element
    /// that a broadcast repeats is one element. Numbers that the program holds do not count.
    pub moved: usize,
}

/// The program's totals. Of those before and after the passes, the difference is what they saved.
pub fn totals(program: &Program) -> Totals {
    let operands = program.instructions.iter().flat_map(Instruction::moved);
    let moved = operands.map(|operand| bytes(program, operand)).sum();
    Totals { instructions: program.instructions.len(), moved }
}

fn bytes(program: &Program, operand: &Operand) -> usize {
    if operand.buffer.is_none_or(|id| matches!(program.buffers[id].place, Place::Constant(_))) {
        return 0;
    }
    let elements = operand.sizes.iter().zip(&operand.strides).filter(|&(_, &stride)| stride != 0);
    elements.map(|(&size, _)| size as usize).product::<usize>() * operand.dtype.size()
}

/// The program as a graph in Graphviz's language: a box a kernel, an arrow a buffer that one writes
/// and another reads. `name` begins each node's name, so that several programs fit into one drawing.
pub fn dot(program: &Program, name: &str) -> String {
    let mut text = String::new();
    let mut writers: HashMap<usize, usize> = HashMap::new();
    for (id, buffer) in program.buffers.iter().enumerate() {
        if let Place::Input(number) = buffer.place {
            let label = format!("input {number}\\n{} bytes", buffer.bytes);
            let _ = writeln!(text, "  {name}b{id} [label=\"{label}\", shape=ellipse];");
        }
    }
    for (at, instruction) in program.instructions.iter().enumerate() {
        let sizes = instruction.written().first().map(|operand| format!("{}{:?}", operand.dtype, operand.sizes));
        let origin = program.origins.get(instruction.origin).map_or("", String::as_str);
        let (kernel, sizes) = (escaped(&instruction.name()), sizes.unwrap_or_default());
        let _ = writeln!(text, "  {name}i{at} [label=\"{kernel}\\n{sizes}\", tooltip=\"{}\"];", escaped(origin));
        let mut from = Vec::new();
        for id in instruction.operands.iter().filter_map(|operand| operand.buffer) {
            let source = match (writers.get(&id), &program.buffers[id].place) {
                (Some(writer), _) => format!("{name}i{writer}"),
                (None, Place::Input(_)) => format!("{name}b{id}"),
                _ => continue,
            };
            if !from.contains(&source) {
                let _ = writeln!(text, "  {source} -> {name}i{at} [label=\"{} B\"];", program.buffers[id].bytes);
                from.push(source);
            }
        }
        writers.extend(instruction.written().iter().filter_map(|operand| operand.buffer).map(|id| (id, at)));
    }
    for (id, buffer) in program.buffers.iter().enumerate() {
        if let (Place::Output(number), Some(writer)) = (&buffer.place, writers.get(&id)) {
            let label = format!("output {number}\\n{} bytes", buffer.bytes);
            let _ = writeln!(text, "  {name}b{id} [label=\"{label}\", shape=ellipse];");
            let _ = writeln!(text, "  {name}i{writer} -> {name}b{id};");
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
