//! Rows over lists of tensors, against plain loops.

mod support;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

const SIZES: [&[i64]; 6] = [&[7], &[70_001], &[0], &[13, 11], &[], &[1]];

/// A list whose fourth tensor lies as `layout` says.
fn list(seed: u64, layout: i64) -> Vec<Tensor<f32>> {
    let mut list: Vec<_> = SIZES.iter().map(|sizes| Tensor::new(sizes, |i| noise(seed)(i) as f32)).collect();
    if layout > 0 {
        list[3] = list[3].scattered(layout);
    }
    list
}

fn flat(list: &[Tensor<f32>]) -> Vec<f64> {
    list.iter().flat_map(Tensor::values).map(f64::from).collect()
}

fn views<'a>(lists: &[&'a [Tensor<f32>]]) -> Vec<View<'a>> {
    lists.iter().flat_map(|list| list.iter().map(Tensor::view)).collect()
}

fn ints(op: Op, own: bool, scalars: &[i64]) -> Vec<i64> {
    [&[SIZES.len() as i64, op as i64, DType::F32 as i64, i64::from(own)], scalars].concat()
}

#[test]
fn one_to_three_lists_in_any_layout() {
    let (a, b, c) = (list(1, 0), list(2, 1), list(3, 2));
    let (x, y, z) = (flat(&a), flat(&b), flat(&c));
    let each = |formula: &dyn Fn(usize) -> f64| (0..x.len()).map(formula).collect::<Vec<f64>>();
    at_every_level(|_| {
        for layout in [0, 3] {
            let out = list(4, layout);
            run(Op::foreach, &views(&[&out, &a]), &ints(Op::neg, false, &[]), &[]).unwrap();
            assert_close(&flat(&out), &each(&|i| -x[i]), 0.0, 0.0);
            run(Op::foreach, &views(&[&out, &a, &b]), &ints(Op::add, false, &[3]), &[2.5]).unwrap();
            assert_close(&flat(&out), &each(&|i| x[i] + 2.5 * y[i]), 1e-6, 1e-7);
            run(Op::foreach, &views(&[&out, &a, &b, &c]), &ints(Op::addcmul, false, &[0]), &[0.5]).unwrap();
            assert_close(&flat(&out), &each(&|i| x[i] + 0.5 * y[i] * z[i]), 1e-6, 1e-7);
        }
        let written = list(1, 1);
        run(Op::foreach, &views(&[&written, &written]), &ints(Op::mul_scalar, false, &[0]), &[-3.0]).unwrap();
        assert_close(&flat(&written), &each(&|i| -3.0 * x[i]), 1e-6, 0.0);
    });
}

#[test]
fn a_scalar_of_its_own_for_each_tensor() {
    let a = list(1, 0);
    let scalars = [1.0, -2.0, 3.0, 0.5, 8.0, 0.25];
    let of_element =
        SIZES.iter().zip(scalars).flat_map(|(sizes, scalar)| vec![scalar; sizes.iter().product::<i64>() as usize]);
    let expected: Vec<f64> = flat(&a).into_iter().zip(of_element).map(|(x, scalar)| x * scalar).collect();
    at_every_level(|_| {
        let out = list(2, 0);
        run(Op::foreach, &views(&[&out, &a]), &ints(Op::mul_scalar, true, &[0; 6]), &scalars).unwrap();
        assert_close(&flat(&out), &expected, 1e-6, 0.0);
        assert!(run(Op::foreach, &views(&[&out, &a]), &ints(Op::mul_scalar, true, &[0; 6]), &scalars[1..]).is_err());
    });
}

#[test]
fn half_types_are_computed_in_f32() {
    let half = |value: f64| half::bf16::from_f64(value);
    let make = |seed: u64| Tensor::new(&[3001], |i| half(noise(seed)(i)));
    let (a, b) = (make(1), make(2));
    at_every_level(|_| {
        let outs = [Tensor::<half::bf16>::zeros(&[3001]), Tensor::zeros(&[3001])];
        let views = [outs[0].view(), outs[1].view(), a.view(), b.view(), b.view(), a.view()];
        run(Op::foreach, &views, &[2, Op::add as i64, DType::BF16 as i64, 0, 1], &[1.0]).unwrap();
        for out in outs {
            let expected: Vec<_> = (0..3001).map(|i| half((a.data[i].to_f32() + b.data[i].to_f32()).into())).collect();
            assert_eq!(out.values(), expected);
        }
    });
}

#[test]
fn rows_with_a_kernel_of_their_own_take_tensors_in_turn() {
    let a = list(1, 2);
    at_every_level(|_| {
        let out = list(2, 1);
        run(Op::foreach, &views(&[&out, &a]), &[6, Op::copy as i64, 0, 0], &[]).unwrap();
        assert_eq!(flat(&out), flat(&a));
        run(Op::foreach, &views(&[&out]), &[6, Op::fill as i64, 0, 0, 0], &[0.0, 0.0]).unwrap();
        assert_eq!(flat(&out), vec![0.0; flat(&a).len()]);

        let norms: Vec<Tensor<f32>> = a.iter().map(|tensor| Tensor::zeros(&vec![1; tensor.sizes.len()])).collect();
        run(Op::foreach, &views(&[&norms, &a]), &[6, Op::norm as i64, 0, 0], &[2.0]).unwrap();
        let of = |tensor: &Tensor<f32>| tensor.values().iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert_close(&flat(&norms), &a.iter().map(of).collect::<Vec<_>>(), 1e-5, 0.0);
    });
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let (a, b) = (list(1, 0), list(2, 0));
    let refused = |views: &[View], ints: &[i64]| run(Op::foreach, views, ints, &[1.0]).unwrap_err().to_string();
    assert!(refused(&views(&[&a, &b]), &ints(Op::add, false, &[0])).contains("expected 3 lists, got 2"));
    assert!(refused(&views(&[&a, &b])[..11], &ints(Op::neg, false, &[])).contains("6 results, with 11 tensors"));
    let mut swapped = b.clone();
    swapped.swap(0, 1);
    assert!(refused(&views(&[&a, &swapped]), &ints(Op::neg, false, &[])).contains("tensor 0"));
    assert!(refused(&views(&[&a, &b]), &[6, 1 << 20, 0, 0]).contains("unknown op"));
    assert!(refused(&views(&[&a, &b]), &[6, Op::bitwise_not as i64, DType::F32 as i64, 0]).contains("float32"));
}
