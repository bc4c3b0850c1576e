//! The pointwise loop against plain loops, on hostile layouts.

mod support;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use support::{Tensor, at_every_level, noise, run};

const F32: i64 = DType::F32 as i64;

#[test]
fn add_on_every_layout() {
    for sizes in [&[][..], &[0], &[1], &[7], &[3, 0, 2], &[5, 7, 3], &[1031], &[2, 600], &[600, 2], &[131, 517]] {
        let a = Tensor::new(sizes, |i| noise(1)(i) as f32);
        let b = Tensor::new(sizes, |i| noise(2)(i) as f32);
        let expected: Vec<f32> = a.values().iter().zip(b.values()).map(|(a, b)| a + 2.0 * b).collect();
        at_every_level(|_| {
            for a in [a.clone(), a.scattered(2)] {
                for b in [b.clone(), b.scattered(3)] {
                    for out in [Tensor::<f32>::zeros(sizes), Tensor::<f32>::zeros(sizes).scattered(1)] {
                        run(Op::add, &[out.view(), a.view(), b.view()], &[F32, 2], &[2.0]).unwrap();
                        assert_eq!(out.values(), expected, "{sizes:?}");
                    }
                }
            }
        });
    }
}
