//! Concatenation of parts of every layout and dtype.

mod support;

use rustorch_kernels::error::Kind;
use rustorch_kernels::ops::Op;
use support::{Tensor, at_every_level, noise, run};

/// Joins along `dim` by coordinates.
fn joined(parts: &[Tensor<f32>], dim: usize, sizes: &[i64]) -> Vec<f32> {
    let out = Tensor::<f32>::zeros(sizes);
    let values: Vec<Vec<f32>> = parts.iter().map(Tensor::values).collect();
    (0..out.data.len())
        .map(|linear| {
            let mut at: Vec<i64> = out.strides.iter().zip(sizes).map(|(s, size)| linear as i64 / s % size).collect();
            let part = parts.iter().position(|part| {
                let inside = at[dim] < part.sizes[dim];
                at[dim] -= if inside { 0 } else { part.sizes[dim] };
                inside
            });
            let part = part.unwrap();
            let strides = support::contiguous_strides(&parts[part].sizes);
            values[part][at.iter().zip(strides).map(|(at, stride)| at * stride).sum::<i64>() as usize]
        })
        .collect()
}

#[test]
fn joins_along_every_dimension() {
    for dim in 0..3 {
        let mut sizes = [3, 5, 7];
        let parts: Vec<Tensor<f32>> = [4, 0, 1, 9]
            .into_iter()
            .map(|size| {
                let mut sizes = sizes;
                sizes[dim] = size;
                Tensor::new(&sizes, |i| noise(size as u64)(i) as f32)
            })
            .collect();
        sizes[dim] = 14;
        let expected = joined(&parts, dim, &sizes);
        at_every_level(|_| {
            for scatter in [false, true] {
                let parts: Vec<_> = parts.iter().map(|p| if scatter { p.scattered(2) } else { p.clone() }).collect();
                for out in [Tensor::<f32>::zeros(&sizes), Tensor::<f32>::zeros(&sizes).scattered(1)] {
                    let mut views = vec![out.view()];
                    views.extend(parts.iter().map(Tensor::view));
                    run(Op::cat, &views, &[dim as i64], &[]).unwrap();
                    assert_eq!(out.values(), expected, "dim {dim}");
                }
            }
        });
    }
}

#[test]
fn casts_to_the_result() {
    let out = Tensor::<f64>::zeros(&[5]);
    let a = Tensor::<i32>::new(&[2], |i| i as i32 - 1);
    let b = Tensor::<half::f16>::new(&[3], |i| half::f16::from_f32(i as f32 + 0.5));
    run(Op::cat, &[out.view(), a.view(), b.view()], &[0], &[]).unwrap();
    assert_eq!(out.values(), [-1.0, 0.0, 0.5, 1.5, 2.5]);
}

#[test]
fn large_parts_are_copied_whole() {
    let parts: Vec<Tensor<f32>> = (0..2).map(|p| Tensor::new(&[300, 400], |i| noise(p)(i) as f32)).collect();
    let out = Tensor::<f32>::zeros(&[600, 400]);
    run(Op::cat, &[out.view(), parts[0].view(), parts[1].view()], &[0], &[]).unwrap();
    assert_eq!(out.values(), [parts[0].values(), parts[1].values()].concat());
}

#[test]
fn refuses_parts_that_do_not_fit() {
    let out = Tensor::<f32>::new(&[4, 3], |_| 7.0);
    for wrong in [Tensor::<f32>::zeros(&[4, 2]), Tensor::zeros(&[3, 3]), Tensor::zeros(&[4])] {
        let error = run(Op::cat, &[out.view(), wrong.view()], &[0], &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::Runtime);
        assert_eq!(out.values(), vec![7.0; 12]);
    }
}
