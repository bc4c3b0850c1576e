//! What the benches of kernels share. They launch an op by its row, as the bridge does, without PyTorch's dispatcher.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use rustorch_kernels::ops::Op;
use rustorch_kernels::threads;
use rustorch_kernels::view::View;

#[path = "../../../tests/rust/support.rs"]
pub mod support;

pub use support::Tensor;

const THREADS: [usize; 2] = [1, 2];

/// Some seconds a row: enough to see a kernel change, not to publish.
pub fn briefly() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

/// A tensor of noise.
pub fn tensor(sizes: &[i64], seed: u64) -> Tensor<f32> {
    let mut noise = support::noise(seed);
    Tensor::new(sizes, |index| noise(index) as f32)
}

/// How many bytes some tensors take: each is read or written once.
pub fn bytes(tensors: &[&Tensor<f32>]) -> Throughput {
    Throughput::Bytes(tensors.iter().map(|tensor| size_of_val(tensor.data.as_slice()) as u64).sum())
}

/// The launch of an op, with one thread and with two. What a call is worth is in FLOPs or bytes.
pub fn measure(
    criterion: &mut Criterion,
    name: &str,
    worth: Throughput,
    op: Op,
    views: &[View<'_>],
    ints: &[i64],
    floats: &[f64],
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(worth);
    for count in THREADS {
        threads::set_num_threads(count);
        group.bench_function(format!("{count} threads"), |bencher| {
            bencher.iter(|| support::run(op, views, ints, floats).expect("the kernel takes what the bench gives it"));
        });
    }
    group.finish();
}
