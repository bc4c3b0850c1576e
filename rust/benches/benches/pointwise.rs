//! Pointwise ops and copies, in the cache and beyond it.

use criterion::{Criterion, criterion_group, criterion_main};
use rustorch_benches::{Tensor, briefly, bytes, measure, tensor};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;

/// What a pointwise op is told: the dtype that it computes in.
const IN_F32: [i64; 1] = [DType::F32 as i64];
const SIZES: [i64; 3] = [16 << 10, 1 << 20, 16 << 20];

fn unary(criterion: &mut Criterion) {
    for size in SIZES {
        let (x, out) = (tensor(&[size], 1), Tensor::<f32>::zeros(&[size]));
        let views = [out.view(), x.view()];
        for (name, op) in [("exp", Op::exp), ("tanh", Op::tanh), ("gelu", Op::gelu_none)] {
            measure(criterion, &format!("{name}, {size}"), bytes(&[&x, &out]), op, &views, &IN_F32, &[]);
        }
        measure(criterion, &format!("copy, {size}"), bytes(&[&x, &out]), Op::copy, &views, &[], &[]);
    }
}

fn binary(criterion: &mut Criterion) {
    for size in SIZES {
        let (a, b, out) = (tensor(&[size], 1), tensor(&[size], 2), Tensor::<f32>::zeros(&[size]));
        let views = [out.view(), a.view(), b.view()];
        measure(criterion, &format!("mul, {size}"), bytes(&[&a, &b, &out]), Op::mul, &views, &IN_F32, &[]);
    }
}

fn transpose(criterion: &mut Criterion) {
    let side = 1024;
    let (x, out) = (tensor(&[side, side], 1).transposed(0, 1), Tensor::<f32>::zeros(&[side, side]));
    measure(criterion, "transpose copy, 1024", bytes(&[&x, &out]), Op::copy, &[out.view(), x.view()], &[], &[]);
}

criterion_group! { name = pointwise; config = briefly(); targets = unary, binary, transpose }
criterion_main!(pointwise);
