//! Convolutions of images, forward and for both gradients.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustorch_benches::{Tensor, briefly, measure, tensor};
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;

struct Shape {
    batch: i64,
    inputs: i64,
    outputs: i64,
    size: i64,
    kernel: i64,
    stride: i64,
    groups: i64,
}

const SHAPES: [Shape; 4] = [
    Shape { batch: 4, inputs: 64, outputs: 64, size: 56, kernel: 3, stride: 1, groups: 1 },
    Shape { batch: 8, inputs: 256, outputs: 256, size: 14, kernel: 3, stride: 1, groups: 1 },
    Shape { batch: 2, inputs: 64, outputs: 256, size: 56, kernel: 1, stride: 1, groups: 1 },
    Shape { batch: 4, inputs: 144, outputs: 144, size: 28, kernel: 3, stride: 2, groups: 144 },
];

fn convolutions(criterion: &mut Criterion) {
    for Shape { batch, inputs, outputs, size, kernel, stride, groups } in SHAPES {
        let padding = kernel / 2;
        let reached = (size + 2 * padding - kernel) / stride + 1;
        let x = tensor(&[batch, inputs, size, size], 1);
        let weight = tensor(&[outputs, inputs / groups, kernel, kernel], 2);
        let y = tensor(&[batch, outputs, reached, reached], 3);
        let to_x = Tensor::<f32>::zeros(&x.sizes);
        let to_weight = Tensor::<f32>::zeros(&weight.sizes);
        let to_y = Tensor::<f32>::zeros(&y.sizes);
        let ints = [2, stride, stride, padding, padding, 1, 1, groups];
        let worth = 2 * y.data.len() as i64 * inputs / groups * kernel * kernel;
        let launches = [
            ("forward", Op::conv_forward, vec![to_y.view(), x.view(), weight.view(), View::absent()]),
            ("dgrad", Op::conv_input_grad, vec![to_x.view(), y.view(), weight.view(), View::absent()]),
            ("wgrad", Op::conv_weight_grad, vec![to_weight.view(), x.view(), y.view()]),
        ];
        for (kind, op, views) in launches {
            let name =
                format!("{batch} x {inputs} to {outputs}, {size}, kernel {kernel}, stride {stride}, {groups}: {kind}");
            measure(criterion, &name, Throughput::Elements(worth as u64), op, &views, &ints, &[]);
        }
    }
}

criterion_group! { name = conv; config = briefly(); targets = convolutions }
criterion_main!(conv);
