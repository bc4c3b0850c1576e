//! The traces of the op table's rows: each has the bits of the row's loop, in every type, and reads back from its text.

use rustorch_kernels::dtype::DType;
use rustorch_kernels::element::Bool;
use rustorch_kernels::isa::Level;
use rustorch_kernels::ops::row::{INPUTS, SCALARS, Scalars};
use rustorch_kernels::ops::{Entry, OPS};
use rustorch_kernels::trace::{Evaluate, Node, Trace, Unary};

const TYPES: [DType; 8] =
    [DType::F32, DType::F64, DType::U8, DType::I8, DType::I16, DType::I32, DType::I64, DType::Bool];

/// The rows, with their names, that are pointwise.
fn rows() -> impl Iterator<Item = (&'static str, &'static dyn rustorch_kernels::ops::Expression)> {
    OPS.iter().filter_map(|row| match row.entry {
        Entry::Pointwise(expression) => Some((row.name, expression)),
        Entry::Kernel(_) => None,
    })
}

/// Special values, and others of all sizes.
trait Hostile: Evaluate {
    fn values() -> Vec<Self>;
}

macro_rules! hostile_floats {
    ($($type:ident $bits:ident),*) => {$(
        impl Hostile for $type {
            fn values() -> Vec<Self> {
                let mut values = vec![
                    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.7, 0.1, 20.5, 88.0, -104.0, 1e30, -1e-30,
                    $type::NAN, $type::INFINITY, $type::NEG_INFINITY, $type::MIN_POSITIVE, $type::MIN_POSITIVE / 8.0,
                    $type::MAX, $type::MIN, $type::EPSILON,
                ];
                values.extend((0..150).map(|at| $type::from_bits($bits::MAX / 149 * at)));
                values.extend((-60..60).map(|at| at as $type * 0.173));
                values
            }
        }
    )*};
}
hostile_floats!(f32 u32, f64 u64);

macro_rules! hostile_integers {
    ($($type:ident),*) => {$(
        impl Hostile for $type {
            fn values() -> Vec<Self> {
                let mut values = vec![0, 1, 2, 3, 7, $type::MIN, $type::MAX, $type::MAX - 1, $type::MIN + 1];
                values.extend((0..40).map(|at: i64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) as $type));
                values
            }
        }
    )*};
}
hostile_integers!(u8, i8, i16, i32, i64);

impl Hostile for Bool {
    fn values() -> Vec<Self> {
        // Any byte but zero is true.
        vec![Bool(0), Bool(1), Bool(2)]
    }
}

fn has_the_bits_of_its_loop<T: Hostile>(name: &str, expression: &dyn rustorch_kernels::ops::Expression) {
    let (Some(trace), Some(block)) = (expression.trace(T::DTYPE), expression.block(T::DTYPE)) else { return };
    assert_eq!(trace.inputs, block.arity, "{name}");
    assert_eq!(trace.is_mask, block.output == DType::Bool, "{name}");
    let values = T::values();
    let number = Scalars { floats: [0.25, 1.5, 0.5, 0.0], ints: [3, 1, 2, 0] };
    let none = Scalars { floats: [-1.0, 20.0, 1.0, 1.0], ints: [-1, 9, 1, 1] };
    for scalars in [number, none] {
        let typed: [T; SCALARS] = std::array::from_fn(|at| T::from_scalar(scalars.floats[at], scalars.ints[at]));
        for at in 0..values.len() * if block.arity == 1 { 1 } else { 40 } {
            let inputs: [T; INPUTS] =
                std::array::from_fn(|input| values[(at + at / values.len() * (2 * input + 1) * input) % values.len()]);
            let mut result = [0u8; 8];
            let pointers = std::array::from_fn(|input| std::ptr::from_ref(&inputs[input]).cast());
            // SAFETY: one element of each, and room for one.
            unsafe { (block.run)(Level::Scalar, 1, pointers, result.as_mut_ptr(), &scalars) };
            let expected = match block.output {
                DType::Bool => u64::from(result[0] != 0),
                // As whole numbers are widened: by their sign, if they have one.
                // SAFETY: the loop wrote an element, of at most eight bytes.
                _ => T::to_word(unsafe { result.as_ptr().cast::<T>().read_unaligned() }),
            };
            let actual = trace.evaluate(&inputs[..block.arity], &typed).unwrap_or_else(|| panic!("{name}: {trace}"));
            let is_nan = |word: u64| !trace.is_mask && T::from_word(word).is_nan();
            let same = actual == expected || is_nan(actual) && is_nan(expected);
            assert!(
                same,
                "{name} over {}: {:?} and {:?} give {actual:#x}, not {expected:#x}\n{trace}",
                T::DTYPE,
                inputs.map(T::to_f64),
                scalars
            );
        }
    }
}

#[test]
fn traces_have_the_bits_of_the_rows_loops() {
    for (name, expression) in rows() {
        has_the_bits_of_its_loop::<f32>(name, expression);
        has_the_bits_of_its_loop::<f64>(name, expression);
        has_the_bits_of_its_loop::<u8>(name, expression);
        has_the_bits_of_its_loop::<i8>(name, expression);
        has_the_bits_of_its_loop::<i16>(name, expression);
        has_the_bits_of_its_loop::<i32>(name, expression);
        has_the_bits_of_its_loop::<i64>(name, expression);
        has_the_bits_of_its_loop::<Bool>(name, expression);
    }
}

#[test]
fn every_row_has_a_trace_or_a_reason() {
    let mut opaque = Vec::new();
    for (name, expression) in rows() {
        if let Some(reason) = expression.opaque() {
            assert!(!reason.is_empty(), "{name}");
            opaque.push(name);
        }
        for dtype in TYPES {
            let has_loop = expression.block(dtype).is_some();
            let expected = has_loop && expression.opaque().is_none();
            assert_eq!(expression.trace(dtype).is_some(), expected, "{name} over {dtype}");
        }
    }
    // What loops by nature, and nothing else.
    let loops = [
        "lgamma",
        "digamma",
        "polygamma",
        "igamma",
        "igammac",
        "zeta",
        "erfcx",
        "ndtri",
        "log_ndtr",
        "i0",
        "i0e",
        "i1",
        "i1e",
        "standard_gamma_grad",
        "dirichlet_grad",
        "gcd",
        "lcm",
    ];
    assert_eq!(opaque, loops);
}

#[test]
fn a_traces_text_reads_back_to_an_equal_trace() {
    let mut count = 0;
    for (name, expression) in rows() {
        for trace in TYPES.iter().filter_map(|&dtype| expression.trace(dtype)) {
            let text = trace.to_string();
            assert_eq!(text.parse().as_ref(), Ok(trace), "{name}:\n{text}");
            count += 1;
        }
    }
    assert!(count > 500, "{count} traces");
}

#[test]
fn text_that_is_no_trace_is_refused_with_its_line() {
    let parse = |text: &str| text.parse::<Trace>().unwrap_err().to_string();
    assert_eq!(parse(""), "line 1: a trace has a first line");
    assert_eq!(parse("float128 1 inputs\nreturn %0"), "line 1: no such dtype");
    assert_eq!(parse("float32 1 inputs\n%0 = input 0\n"), "line 3: there is no `return`");
    assert_eq!(parse("float32 1 inputs\n%0 = neg %0\n"), "line 2: no such node, or not its operands");
    assert_eq!(parse("float32 1 inputs\n%0 = input 0\n%1 = add %0\n"), "line 3: no such node, or not its operands");
    assert_eq!(parse("float32 1 inputs\n%1 = input 0\n"), "line 2: expected the next node, or `return`");
    assert_eq!(parse("float32 1 inputs\n%0 = input 0\nreturn %1"), "line 3: no node of that number");
    assert_eq!(
        parse("float32 1 inputs\n%0 = input 0\n%1 = shifted_left 32 %0\n"),
        "line 3: no such node, or not its operands"
    );
    // Reads an input that is not there: no value, and no panic.
    let trace: Trace = "float32 1 inputs\n%0 = input 7\nreturn %0".parse().unwrap();
    assert_eq!(trace.evaluate(&[1.0f32], &[0.0; SCALARS]), None);
    assert_eq!(trace.evaluate(&[1.0f64], &[0.0; SCALARS]), None);
}

#[test]
fn a_trace_is_what_its_row_says() {
    let row = rows().find(|(name, _)| *name == "tanh_backward").unwrap().1;
    let trace = row.trace(DType::F32).unwrap();
    let expected = "float32 2 inputs
%0 = input 0
%1 = input 1
%2 = mul %1 %1
%3 = constant 1.0
%4 = sub %3 %2
%5 = mul %0 %4
return %5
";
    assert_eq!(trace.to_string(), expected);
    assert_eq!(trace.operations().count(), 3);
    // The functions that are written over values leave no function behind.
    for name in ["exp", "log", "tanh", "erf", "gelu_none", "silu"] {
        let trace = rows().find(|(row, _)| *row == name).unwrap().1.trace(DType::F32).unwrap();
        let is_function = |node: &&Node| matches!(node, Node::Unary(op, _) if *op as u32 > Unary::Sqrt as u32);
        assert_eq!(trace.nodes.iter().filter(is_function).count(), 0, "{name}:\n{trace}");
    }
}
