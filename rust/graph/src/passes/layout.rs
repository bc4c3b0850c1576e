//! The memory order of intermediate images. Depthwise convolutions and those of one element run faster where
//! channels lie innermost ("channels last"), most others where rows do. Images that only this program sees, and
//! that instructions touch together, lie in the order in which their convolutions are faster taken together. The
//! program's arguments and results keep theirs; an instruction at the edge reads one order and writes the other.

use std::collections::HashMap;

use rustorch_kernels::ops::{Entry, Op};
use rustorch_kernels::reduce;

use crate::program::{BufferId, Instruction, Kernel, Operand, Place, Program};

/// Images, channels, rows, columns.
type Sizes = [i64; 4];

/// How much faster the other order must be: figures are estimates.
const WORTH: f64 = 1.1;
/// Elements a nanosecond of an instruction that reads one order and writes the other.
const TURNED: f64 = 1.0;

/// Multiply-adds a nanosecond of a kind of convolution: with rows innermost, with channels innermost, and
/// where its two images lie differently. Measured on one core with AVX-512; the ratios are what counts.
struct Speed {
    first: f64,
    last: f64,
    mixed: f64,
}
const DEPTHWISE: Speed = Speed { first: 16.0, last: 40.0, mixed: 8.0 };
const ONE_ELEMENT: Speed = Speed { first: 90.0, last: 105.0, mixed: 60.0 };
const OTHER: Speed = Speed { first: 95.0, last: 60.0, mixed: 60.0 };

pub fn run(program: &mut Program) {
    let images = images(program);
    let mut groups = Groups { parents: (0..program.buffers.len()).collect() };
    for instruction in &program.instructions {
        let mut touched = touched(instruction, &images);
        if let Some(first) = touched.next() {
            touched.for_each(|other| groups.join(first, other));
        }
    }
    let mut gains: HashMap<BufferId, f64> = HashMap::new();
    for instruction in &program.instructions {
        if let Some(first) = touched(instruction, &images).next() {
            *gains.entry(groups.root(first)).or_default() += gain(instruction, &images);
        }
    }
    let is_turned: Vec<bool> = (0..program.buffers.len())
        .map(|buffer| images[buffer].is_some() && gains.get(&groups.root(buffer)).is_some_and(|&gain| gain > 0.0))
        .collect();
    for instruction in &mut program.instructions {
        turn(instruction, &images, &is_turned);
    }
}

/// Images that are touched by the same instructions.
struct Groups {
    parents: Vec<BufferId>,
}

impl Groups {
    fn root(&mut self, mut buffer: BufferId) -> BufferId {
        while self.parents[buffer] != buffer {
            self.parents[buffer] = self.parents[self.parents[buffer]];
            buffer = self.parents[buffer];
        }
        buffer
    }

    fn join(&mut self, a: BufferId, b: BufferId) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a] = b;
    }
}

/// The images that may lie in either order: every operand is a view of the whole, as images or (of a pointwise
/// instruction) in one row, and every instruction that touches it takes any order.
fn images(program: &Program) -> Vec<Option<Sizes>> {
    let mut images: Vec<Option<Sizes>> = vec![None; program.buffers.len()];
    for operand in program.instructions.iter().flat_map(|instruction| &instruction.operands) {
        if let (Some(buffer), Ok(sizes)) = (operand.buffer, Sizes::try_from(&operand.sizes[..]))
            && matches!(program.buffers[buffer].place, Place::Arena(_))
            && sizes[1] > 1
            && sizes[2] * sizes[3] > 1
        {
            images[buffer] = Some(sizes);
        }
    }
    for instruction in &program.instructions {
        for (at, operand) in instruction.operands.iter().enumerate() {
            let Some(buffer) = operand.buffer else { continue };
            images[buffer] = images[buffer].filter(|sizes| {
                operand.offset == 0
                    && takes_any_order(instruction, at)
                    && (is_image(operand, sizes) || is_flat(operand, sizes) && is_pointwise(instruction))
            });
        }
    }
    // A pointwise instruction in one row is put over images; all that it reads must allow it.
    loop {
        let mut refused = Vec::new();
        for instruction in program.instructions.iter().filter(|instruction| is_pointwise(instruction)) {
            let touched: Vec<BufferId> = touched(instruction, &images).collect();
            let Some(sizes) = touched.first().and_then(|&first| images[first]) else { continue };
            let fits = |operand: &Operand| !operand.present || over(operand, &sizes).is_some();
            if !instruction.operands.iter().all(fits) || touched.iter().any(|&other| images[other] != Some(sizes)) {
                refused.extend(touched);
            }
        }
        if refused.is_empty() {
            return images;
        }
        refused.into_iter().for_each(|buffer| images[buffer] = None);
    }
}

fn touched<'a>(instruction: &'a Instruction, images: &'a [Option<Sizes>]) -> impl Iterator<Item = BufferId> + use<'a> {
    instruction.operands.iter().filter_map(|operand| operand.buffer).filter(|&buffer| images[buffer].is_some())
}

fn is_pointwise(instruction: &Instruction) -> bool {
    matches!(instruction.kernel, Kernel::Row(row) if matches!(row.entry, Entry::Pointwise(_)))
}

/// Whether an instruction's kernel is as good in either order of this operand.
fn takes_any_order(instruction: &Instruction, operand: usize) -> bool {
    let Kernel::Row(row) = instruction.kernel else { return false };
    match () {
        () if row.is(Op::conv_forward) => operand < 2,
        () if row.is(Op::batch_norm) => true,
        () => is_pointwise(instruction) || reduce::row(row.name).is_some(),
    }
}

/// Row by row: the strides of images with rows innermost, or channels.
fn strides([_, channels, rows, cols]: &Sizes, is_turned: bool) -> [i64; 4] {
    let image = channels * rows * cols;
    if is_turned { [image, 1, cols * channels, *channels] } else { [image, rows * cols, *cols, 1] }
}

fn is_image(operand: &Operand, sizes: &Sizes) -> bool {
    let expected = strides(sizes, false);
    let same = |dim: usize| operand.strides[dim] == expected[dim] || sizes[dim] == 1;
    operand.sizes[..] == sizes[..] && (0..4).all(same)
}

fn is_flat(operand: &Operand, sizes: &Sizes) -> bool {
    operand.sizes[..] == [sizes.iter().product::<i64>()] && operand.strides[..] == [1]
}

/// The strides of a pointwise instruction's operand over images.
fn over(operand: &Operand, sizes: &Sizes) -> Option<[i64; 4]> {
    if operand.sizes[..] == sizes[..] {
        return operand.strides[..].try_into().ok();
    }
    let is_one_row = operand.sizes[..] == [sizes.iter().product::<i64>()];
    match operand.strides[..] {
        [1] if is_one_row => Some(strides(sizes, false)),
        [0] if is_one_row => Some([0; 4]),
        _ => None,
    }
}

/// What the other order saves an instruction, in nanoseconds.
fn gain(instruction: &Instruction, images: &[Option<Sizes>]) -> f64 {
    let is_free = |operand: &Operand| operand.buffer.is_some_and(|buffer| images[buffer].is_some());
    let Kernel::Row(row) = instruction.kernel else { return 0.0 };
    if !row.is(Op::conv_forward) {
        let is_fixed = |operand: &&Operand| {
            let varies = operand.strides.iter().filter(|&&stride| stride != 0).count();
            !is_free(operand) && operand.present && varies > 0 && operand.numel() == instruction.operands[0].numel()
        };
        let fixed = instruction.operands.iter().filter(is_fixed).map(Operand::numel).sum::<usize>();
        return if reduce::row(row.name).is_some() { 0.0 } else { -(fixed as f64) / TURNED };
    }
    let [out, input, weight] = &instruction.operands[..3] else { return 0.0 };
    let channels = out.sizes[1];
    let work = out.numel() as f64 * weight.numel() as f64 / channels as f64;
    let kernel = weight.sizes[2] * weight.sizes[3];
    let is_plain = instruction.ints[1..5] == [1, 1, 0, 0];
    let speed = match () {
        () if weight.sizes[1] == 1 && input.sizes[1] == channels => DEPTHWISE,
        () if kernel == 1 && is_plain && weight.sizes[1] == input.sizes[1] => ONE_ELEMENT,
        () => OTHER,
    };
    let turned = if is_free(out) && is_free(input) { speed.last } else { speed.mixed };
    work / speed.first - WORTH * work / turned
}

/// Rewrites an instruction's operands for the images that lie with channels innermost.
fn turn(instruction: &mut Instruction, images: &[Option<Sizes>], is_turned: &[bool]) {
    let mine = |operand: &Operand| operand.buffer.filter(|&buffer| is_turned[buffer]);
    let Some(sizes) = instruction.operands.iter().find_map(|operand| images[mine(operand)?]) else { return };
    let is_pointwise = is_pointwise(instruction);
    for operand in instruction.operands.iter_mut().filter(|operand| operand.present) {
        if is_pointwise && let Some(strides) = over(operand, &sizes) {
            (operand.sizes, operand.strides) = (sizes.into(), strides.into());
        }
        if let Some(sizes) = mine(operand).and_then(|buffer| images[buffer]) {
            operand.strides = strides(&sizes, true).into();
        }
    }
}
