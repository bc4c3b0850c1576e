//! Batch normalisation as a small kernel of each channel's coefficients and two pointwise steps, where those can
//! join what comes after, or the convolution before.

use rustorch_kernels::finish;
use rustorch_kernels::ops::Op;

use super::fuse::Member;
use super::reductions::is_dense;
use crate::program::{Buffer, BufferId, Instruction, Kernel, Operand, Place, Program};

/// Elements of a channel side by side from which two pointwise steps over them are no slower than the one row.
const PLANE: i64 = 512;

pub fn run(program: &mut Program) {
    let (writes, readers) = (program.writes(), program.readers());
    let splits: Vec<bool> =
        (0..program.instructions.len()).map(|at| is_worth(program, &writes, &readers, at)).collect();
    if !splits.contains(&true) {
        return;
    }
    let mut instructions = Vec::with_capacity(program.instructions.len());
    for (instruction, splits) in std::mem::take(&mut program.instructions).into_iter().zip(splits) {
        match splits.then(|| split(&mut program.buffers, &instruction)).flatten() {
            Some(parts) => instructions.extend(parts),
            None => instructions.push(instruction),
        }
    }
    program.instructions = instructions;
}

/// `[output, .., input, weight?, bias?]` of a batch normalisation.
fn of_norm(instruction: &Instruction) -> Option<(&Operand, &Operand)> {
    let Kernel::Row(row) = instruction.kernel else { return None };
    let [output, .., input, _, _] = instruction.operands.as_slice() else { return None };
    row.is(Op::batch_norm).then_some((output, input))
}

fn is_inference(norm: &Instruction) -> bool {
    norm.ints.first() == Some(&0)
}

/// Whether the steps will be a part of something.
fn is_worth(program: &Program, writes: &[Vec<usize>], readers: &[Vec<usize>], at: usize) -> bool {
    let Some((output, input)) = of_norm(&program.instructions[at]) else { return false };
    let (Some(result), Some(source)) = (output.buffer, input.buffer) else { return false };
    let is_alike = input.strides == output.strides && is_dense(output) && is_dense(input);
    let is_long = input.strides[1] == 1 || input.sizes[2..].iter().product::<i64>() >= PLANE;
    if !is_alike || !is_long || !input.dtype.is_float() {
        return false;
    }
    let is_pointwise = |&reader: &usize| {
        reader > at && Member::of(&program.instructions[reader]).is_some_and(|member| member.reads_in_order(result))
    };
    // In inference it is all that is done to the convolution's result.
    let ends_convolution = is_inference(&program.instructions[at])
        && matches!(writes[source][..], [writer] if matches!(program.instructions[writer].kernel,
            Kernel::Row(row) if finish::row(row).is_some()));
    readers[result].iter().any(is_pointwise) || ends_convolution
}

/// The coefficients, the distance from the mean, and the result.
fn split(buffers: &mut Vec<Buffer>, norm: &Instruction) -> Option<[Instruction; 3]> {
    let (output, input) = of_norm(norm)?;
    let dtype = input.dtype.compute();
    let mut buffer = |count: usize| -> BufferId {
        buffers.push(Buffer { bytes: count * dtype.size(), place: Place::Arena(0) });
        buffers.len() - 1
    };
    let channels = *input.sizes.get(1)?;
    let coefficients = [0; 3].map(|_| Operand {
        present: true,
        buffer: Some(buffer(channels as usize)),
        offset: 0,
        dtype,
        sizes: [channels].into(),
        strides: [1].into(),
    });
    let spread = |coefficient: &Operand| {
        let strides = (0..input.sizes.len()).map(|dim| i64::from(dim == 1)).collect();
        Operand { sizes: input.sizes.clone(), strides, ..coefficient.clone() }
    };
    let [centre, scale, constant] = coefficients.each_ref().map(spread);
    let distance = Operand { buffer: Some(buffer(input.numel())), offset: 0, dtype, ..output.clone() };
    let step = |op: Op, operands: Vec<Operand>, scalars: &[f64]| Instruction {
        kernel: Kernel::Row(op.row()),
        operands,
        ints: vec![dtype as i64],
        floats: scalars.to_vec(),
        origin: norm.origin,
    };
    let mut of_channels = Instruction {
        kernel: Kernel::Row(Op::batch_norm_coefficients.row()),
        operands: coefficients.iter().chain(&norm.operands[1..]).cloned().collect(),
        ..norm.clone()
    };
    if is_inference(norm) {
        // So that it does not wait for the input, which it does not read.
        let absent = Operand { present: false, buffer: None, offset: 0, sizes: [].into(), strides: [].into(), dtype };
        of_channels.operands[7] = absent;
    }
    let shifted = step(Op::sub, vec![distance.clone(), input.clone(), centre], &[1.0]);
    let scaled = step(Op::mul_add, vec![output.clone(), distance, scale, constant], &[]);
    Some([of_channels, shifted, scaled])
}
