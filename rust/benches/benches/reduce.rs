//! Reductions of a matrix over its rows, its columns and both, and running sums.

use criterion::{Criterion, criterion_group, criterion_main};
use rustorch_benches::{Tensor, briefly, bytes, measure, tensor};
use rustorch_kernels::ops::Op;

const SIDES: [i64; 2] = [128, 1024];

fn reductions(criterion: &mut Criterion) {
    for side in SIDES {
        let x = tensor(&[side, side], 1);
        for (over, sizes) in [("last", [side, 1]), ("first", [1, side]), ("all", [1, 1])] {
            let out = Tensor::<f32>::zeros(&sizes);
            for (name, op) in [("sum", Op::sum), ("amax", Op::amax)] {
                let name = format!("{name} over {over}, {side}");
                measure(criterion, &name, bytes(&[&x, &out]), op, &[out.view(), x.view()], &[], &[]);
            }
        }
    }
}

fn running(criterion: &mut Criterion) {
    for side in SIDES {
        let (x, out) = (tensor(&[side, side], 1), Tensor::<f32>::zeros(&[side, side]));
        let name = format!("cumsum of rows, {side}");
        measure(criterion, &name, bytes(&[&x, &out]), Op::cumsum, &[out.view(), x.view()], &[1], &[]);
    }
}

criterion_group! { name = reduce; config = briefly(); targets = reductions, running }
criterion_main!(reduce);
