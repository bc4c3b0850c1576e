//! Matrix products of f32.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustorch_benches::{Tensor, briefly, measure, tensor};
use rustorch_kernels::ops::Op;

/// m, n, k: cubes, a linear layer of a small batch, and what is long in one direction.
const SHAPES: [(i64, i64, i64); 6] =
    [(64, 64, 64), (256, 256, 256), (1024, 1024, 1024), (64, 512, 784), (1, 1024, 1024), (128, 9216, 64)];

fn products(criterion: &mut Criterion) {
    for (m, n, k) in SHAPES {
        let (a, b, out) = (tensor(&[m, k], 1), tensor(&[k, n], 2), Tensor::<f32>::zeros(&[m, n]));
        let worth = Throughput::Elements(2 * (m * n * k) as u64);
        measure(
            criterion,
            &format!("matmul {m}, {n}, {k}"),
            worth,
            Op::matmul,
            &[out.view(), a.view(), b.view()],
            &[],
            &[],
        );
    }
}

criterion_group! { name = gemm; config = briefly(); targets = products }
criterion_main!(gemm);
