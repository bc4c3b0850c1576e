//! Copies between layouts: by squares, by short rows and by long ones, of every size of element.

mod support;

use rustorch_kernels::ops::Op;
use support::{Item, Tensor, at_every_level, run};

/// Copies a tensor whose dimensions were exchanged, spread, reversed or repeated, and looks at every element.
fn check<T: Item>(sizes: &[i64], value: fn(usize) -> T) {
    let dense = Tensor::new(sizes, value);
    let mut sources = vec![dense.clone(), dense.scattered(1), dense.scattered(2)];
    for first in 0..sizes.len() {
        for second in 0..first {
            let mut turned = sizes.to_vec();
            turned.swap(first, second);
            sources.push(Tensor::new(&turned, value).transposed(first, second));
        }
        // One element repeated along a dimension.
        let mut narrow = sizes.to_vec();
        narrow[first] = 1;
        sources.push(Tensor::new(&narrow, value).expanded(sizes));
    }
    for source in sources {
        at_every_level(|level| {
            for target in [Tensor::<T>::zeros(sizes), Tensor::<T>::zeros(sizes).scattered(2)] {
                run(Op::copy, &[target.view(), source.view()], &[], &[]).unwrap();
                assert_eq!(target.values(), source.values(), "{sizes:?}, {:?}, {level:?}", source.strides);
            }
        });
    }
}

#[test]
fn every_layout_of_every_size() {
    for sizes in [
        &[5, 3, 2][..],
        &[40, 3],
        &[3, 40],
        &[70, 65],
        &[16, 64],
        &[7, 2, 33, 2],
        &[129, 2, 17],
        &[2, 31, 32],
        &[1, 1, 5],
        &[0, 4],
        // More than a task.
        &[9000, 2, 3],
        &[2, 9000, 3],
    ] {
        check::<u8>(sizes, |at| at as u8);
        check::<i16>(sizes, |at| at as i16);
        check::<f32>(sizes, |at| at as f32);
        check::<i64>(sizes, |at| at as i64);
    }
}
