//! Machine code of fused kernels has the bits of the rows' block loops, at every level that has it; so has the
//! interpreter, where the level has none.

mod captured;

use rustorch_graph::program::{Kernel, Program};
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::{Entry, OPS, Op, Row};
use rustorch_kernels::view::{Attrs, View};

/// Not a multiple of a vector, and more than a block.
const COUNT: usize = 1003;
const BYTES: usize = 8 * COUNT;

fn vector(block: usize, dtype: DType) -> View<'static> {
    captured::view(block, dtype, &[COUNT as i64], &[1])
}

fn launch(row: &'static Row, views: &[View<'static>], compute: DType) {
    let attrs = Attrs { ints: &[compute as i64, 0, 1, 0, 0], floats: &[0.25, 1.5, 0.5, 0.0] };
    record::launch(row, views, &attrs).unwrap();
}

/// A capture of two launches of `row` over inputs 0 to 2 of the dtype `stored`, and of something that joins them.
fn twice(row: &'static Row, arity: usize, stored: DType, result: DType) -> Program {
    captured::begin(7, BYTES);
    let compute = stored.compute();
    let inputs = |first: usize| (0..arity).map(move |input| vector((first + input) % 3, stored));
    for (out, first) in [(3, 0), (4, 1)] {
        launch(row, &[vector(out, result)].into_iter().chain(inputs(first)).collect::<Vec<_>>(), compute);
    }
    let (join, joined) = if result == DType::Bool { (Op::logical_xor, DType::Bool) } else { (Op::sub, result) };
    launch(join.row(), &[vector(5, joined), vector(3, result), vector(4, result)], joined.compute());
    captured::finish(&[0, 1, 2], &[3, 5])
}

const HOSTILE: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.25,
    1.5,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MIN_POSITIVE,
    1e-42,
    f32::MAX,
    f32::MIN,
    0.1,
    -3.7,
    88.0,
];

/// A number's bits in a half type, cut off.
fn half_bits(value: f32, dtype: DType) -> u16 {
    match dtype {
        DType::F16 if value.is_nan() => 0x7e01,
        DType::F16 => {
            let exponent = (value.to_bits() >> 23 & 0xff) as i32 - 112;
            let sign = (value.to_bits() >> 16 & 0x8000) as u16;
            // Subnormals where the number has too small an exponent.
            let mantissa = (value.to_bits() >> 13 & 0x3ff) as u16;
            sign | if exponent > 30 { 0x7c00 } else { (exponent.max(0) as u16) << 10 | mantissa }
        }
        _ => (value.to_bits() >> 16) as u16,
    }
}

/// The bytes of both outputs.
fn execute(program: &Program, stored: DType, result: DType) -> Vec<Vec<u32>> {
    let value = |input: usize, at: usize| HOSTILE[(at * (2 * input + 1) + at / 16) % 16];
    let inputs: Vec<Vec<u8>> = (0..3)
        .map(|input| {
            let bytes = (0..COUNT).flat_map(|at| match stored {
                DType::Bool => vec![(value(input, at) > 0.0) as u8],
                DType::F16 | DType::BF16 => half_bits(value(input, at), stored).to_ne_bytes().to_vec(),
                _ => value(input, at).to_ne_bytes().to_vec(),
            });
            bytes.chain(std::iter::repeat(0)).take(BYTES).collect()
        })
        .collect();
    let outputs = captured::execute(program, &inputs, BYTES).unwrap();
    outputs
        .iter()
        .map(|output| match result {
            DType::Bool => output.iter().map(|&byte| byte as u32).collect(),
            DType::F16 | DType::BF16 => {
                let infinity = if result == DType::F16 { 0x7c00 } else { 0x7f80 };
                let bits = output.chunks_exact(2).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
                bits.map(|bits| if bits & 0x7fff > infinity { u32::MAX } else { bits as u32 }).collect()
            }
            // One NaN is as good as another: its bits depend on the order of commuted operands.
            _ => output
                .chunks_exact(4)
                .map(|bytes| f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() })
                .collect(),
        })
        .collect()
}

#[test]
fn machine_code_has_the_bits_of_block_loops() {
    // Without AVX2 there is no machine code, and the interpreter of fused kernels is what has the bits.
    for level in Level::available() {
        let mut compiled = 0;
        for row in OPS {
            let Entry::Pointwise(expression) = row.entry else { continue };
            for stored in [DType::F32, DType::Bool, DType::F16, DType::BF16] {
                let Some(block) = expression.block(stored.compute()) else { continue };
                let result = if block.output == DType::F32 { stored } else { block.output };
                isa::at(level, || {
                    let mut plain = twice(row, block.arity, stored, result);
                    let mut fused = plain.clone();
                    plan::run(&mut plain);
                    passes::fuse::run(&mut fused);
                    plan::run(&mut fused);
                    let Kernel::Fused(kernel) = &fused.instructions[0].kernel else {
                        panic!("{} did not fuse", row.name)
                    };
                    let machine_steps = kernel.ready().map_or(0, |ready| ready.machine_steps());
                    compiled += machine_steps;
                    // Both launches, and what joins them: a row without functions is machine code.
                    let is_whole = expression.trace(stored).is_some_and(|trace| !trace.has_functions());
                    if stored == DType::F32 && is_whole && level != Level::Scalar {
                        assert!(machine_steps >= 3, "{} has no machine code", row.name);
                    }
                    assert_eq!(
                        execute(&fused, stored, result),
                        execute(&plain, stored, result),
                        "{} over {stored} at {}",
                        row.name,
                        level.name()
                    );
                });
            }
        }
        // Some two hundred row and type pairs have machine code, each in three steps here, or more.
        let all = if level == Level::Scalar { compiled == 0 } else { compiled > 700 };
        assert!(all, "{compiled} steps became machine code at {}", level.name());
    }
}

#[test]
fn code_for_more_values_than_registers_is_cut() {
    // A sum of products of twenty inputs, all of which are alive until the end.
    const INPUTS: usize = 20;
    isa::at(isa::machine(), || {
        captured::begin(3 * INPUTS + 1, BYTES);
        for at in 0..INPUTS {
            launch(
                Op::mul.row(),
                &[at + INPUTS, at, (at + 1) % INPUTS].map(|block| vector(block, DType::F32)),
                DType::F32,
            );
        }
        let mut sum = INPUTS;
        for at in 1..INPUTS {
            launch(
                Op::sub.row(),
                &[2 * INPUTS + at, sum, 2 * INPUTS - at].map(|block| vector(block, DType::F32)),
                DType::F32,
            );
            sum = 2 * INPUTS + at;
        }
        let plain = captured::finish(&(0..INPUTS).collect::<Vec<_>>(), &[sum]);
        let mut fused = plain.clone();
        passes::fuse::run(&mut fused);
        assert!(fused.instructions.len() < plain.instructions.len());
        let run = |program: &Program| {
            let mut program = program.clone();
            plan::run(&mut program);
            let inputs: Vec<Vec<f32>> =
                (0..INPUTS).map(|input| (0..COUNT).map(|at| ((at + input) % 13) as f32 - 6.0).collect()).collect();
            captured::execute(&program, &inputs, COUNT).unwrap()
        };
        assert_eq!(run(&fused), run(&plain));
    });
}

#[test]
fn elementary_functions_have_the_bits_of_block_loops_everywhere() {
    /// All exponents, both signs.
    const STEP: usize = 32_771;
    let mut values: Vec<f32> = (0..=u32::MAX).step_by(STEP).map(f32::from_bits).collect();
    values.extend(HOSTILE);
    values.extend((0..100_003).map(|at| (at as f32 - 50_000.0) / 2500.0));
    let count = values.len();
    let line = |block| captured::view(block, DType::F32, vec![count as i64].leak(), &[1]);
    for op in [Op::exp, Op::log, Op::tanh, Op::erf, Op::sigmoid, Op::silu, Op::gelu_none, Op::gelu_tanh, Op::mish] {
        captured::begin(3, 4 * count);
        launch(op.row(), &[line(1), line(0)], DType::F32);
        launch(Op::neg.row(), &[line(2), line(1)], DType::F32);
        let mut plain = captured::finish(&[0], &[2]);
        let recorded = plain.clone();
        plan::run(&mut plain);
        for level in Level::available() {
            isa::at(level, || {
                let mut fused = recorded.clone();
                passes::fuse::run(&mut fused);
                plan::run(&mut fused);
                let Kernel::Fused(kernel) = &fused.instructions[0].kernel else { panic!("not fused") };
                let machine_steps = kernel.ready().map_or(0, |ready| ready.machine_steps());
                assert_eq!(machine_steps, if level == Level::Scalar { 0 } else { 2 }, "at {}", level.name());
                let run = |program: &Program| -> Vec<f32> {
                    captured::execute(program, std::slice::from_ref(&values), count).unwrap().concat()
                };
                for ((&value, expected), actual) in values.iter().zip(run(&plain)).zip(run(&fused)) {
                    let same = expected.to_bits() == actual.to_bits() || (expected.is_nan() && actual.is_nan());
                    let name = op.row().name;
                    assert!(same, "{name} of {value:e} at {}: {expected:e}, not {actual:e}", level.name());
                }
            });
        }
    }
}

/// Matrices, rows and columns spread over them, and masks of all three: more operands than there are registers for
/// their addresses. Rows are whole turns, or not, or shorter than machine code takes them by themselves.
#[test]
fn rows_and_columns_spread_over_a_matrix_are_read_in_place() {
    const INPUTS: usize = 11;
    const ROWS: i64 = 37;
    for width in [96, 100, 64, 40, 1056] {
        let count = (ROWS * width) as usize;
        let sizes: &'static [i64] = vec![ROWS, width].leak();
        let strides: [&'static [i64]; 3] = [vec![width, 1].leak(), &[0, 1], &[1, 0]];
        let view = |block: usize, dtype| {
            let strides = if block < INPUTS { strides[block % 3] } else { strides[0] };
            captured::view(block, dtype, sizes, strides)
        };
        captured::begin(3 * INPUTS, 4 * count);
        // Inputs 8 to 10 are masks; what is summed is chosen by one of them in turns.
        let mut sum = 0;
        for input in 1..8 {
            let (product, chosen) = (INPUTS + input, 2 * INPUTS + input);
            let mask = 8 + input % 3;
            launch(
                Op::mul.row(),
                &[view(product, DType::F32), view(input, DType::F32), view(sum, DType::F32)],
                DType::F32,
            );
            let views =
                [chosen, product, mask].map(|block| view(block, if block == mask { DType::Bool } else { DType::F32 }));
            launch(Op::masked_fill.row(), &views, DType::F32);
            sum = chosen;
        }
        let mut plain = captured::finish(&(0..INPUTS).collect::<Vec<_>>(), &[sum]);
        let recorded = plain.clone();
        plan::run(&mut plain);
        let value = |input: usize, at: usize| match input {
            // Four bytes of zero or one.
            8.. => f32::from_bits((at as u32).wrapping_mul(0x9e37_79b9) >> 3 & 0x0101_0101),
            _ => HOSTILE[(at * (2 * input + 1) + at / 16) % 16],
        };
        let inputs: Vec<Vec<f32>> = (0..INPUTS).map(|input| (0..count).map(|at| value(input, at)).collect()).collect();
        let run = |program: &Program| -> Vec<u32> {
            let outputs = captured::execute(program, &inputs, count).unwrap();
            let bits = |value: &f32| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
            outputs.iter().flatten().map(bits).collect()
        };
        for level in Level::available() {
            isa::at(level, || {
                let mut fused = recorded.clone();
                passes::fuse::run(&mut fused);
                assert!(fused.instructions.len() <= 2, "{} kernels", fused.instructions.len());
                plan::run(&mut fused);
                assert!(run(&fused) == run(&plain), "rows of {width} at {}", level.name());
            });
        }
    }
}

#[test]
fn what_reads_one_number_a_row_is_machine_code_by_itself() {
    const ROWS: i64 = 70;
    // Rows of whole turns, or not, which the row's own loop is left with.
    for (width, name, is_turned) in [(96, "fused[div]", false), (96, "fused[div]", true), (100, "div", false)] {
        let count = (ROWS * width) as usize;
        // The same rows with their dimensions in the other order, as eager's iterators have them.
        let dims = |dims: [i64; 2]| -> &'static [i64] {
            Vec::leak(if is_turned { vec![dims[1], dims[0]] } else { dims.to_vec() })
        };
        let strides = [dims([width, 1]), dims([1, 0])];
        let view = |block, strides| captured::view(block, DType::F32, dims([ROWS, width]), strides);
        captured::begin(3, 4 * count);
        launch(Op::div.row(), &[view(2, strides[0]), view(0, strides[0]), view(1, strides[1])], DType::F32);
        let mut plain = captured::finish(&[0, 1], &[2]);
        let recorded = plain.clone();
        plan::run(&mut plain);
        let inputs: Vec<Vec<f32>> =
            (0..2).map(|input| (0..count).map(|at| ((at + input) % 13) as f32 - 6.0).collect()).collect();
        let run = |program: &Program| -> Vec<u32> {
            let outputs: Vec<Vec<f32>> = captured::execute(program, &inputs, count).unwrap();
            let bits = |value: &f32| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
            outputs.iter().flatten().map(bits).collect()
        };
        for level in Level::available() {
            isa::at(level, || {
                let mut optimised = recorded.clone();
                passes::optimise(&mut optimised);
                let expected = if level == Level::Scalar { "div" } else { name };
                assert_eq!(optimised.instructions[0].name(), expected, "at {}", level.name());
                assert!(run(&optimised) == run(&plain), "rows of {width} at {}", level.name());
            });
        }
    }
}
