//! What the kernel tests share: owned tensors, hostile layouts, plain loops to compare with.
#![allow(dead_code, reason = "each test file uses a part")]

use rustorch_kernels::dtype::DType;
use rustorch_kernels::element::Bool;
use rustorch_kernels::error::Result;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::row::{Expression, Row};
use rustorch_kernels::ops::{Entry, OPS, Op, launch};
use rustorch_kernels::view::{Attrs, View};

/// An element type that tests own tensors of.
pub trait Item: Copy + PartialEq + std::fmt::Debug + Default {
    const DTYPE: DType;
}
macro_rules! items {
    ($($type:ty: $dtype:ident),*) => {$(impl Item for $type { const DTYPE: DType = DType::$dtype; })*};
}
items!(u8: U8, i8: I8, i16: I16, i32: I32, i64: I64, f32: F32, f64: F64, half::bf16: BF16, half::f16: F16);

#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[repr(transparent)]
pub struct Flag(pub u8);
impl Item for Flag {
    const DTYPE: DType = DType::Bool;
}
impl From<Flag> for Bool {
    fn from(flag: Flag) -> Self {
        Bool(flag.0)
    }
}

/// An owned strided tensor.
#[derive(Clone, Debug)]
pub struct Tensor<T> {
    pub data: Vec<T>,
    pub offset: usize,
    pub sizes: Vec<i64>,
    pub strides: Vec<i64>,
}

pub fn contiguous_strides(sizes: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; sizes.len()];
    for dim in (1..sizes.len()).rev() {
        strides[dim - 1] = strides[dim] * sizes[dim].max(1);
    }
    strides
}

impl<T: Item> Tensor<T> {
    /// A dense tensor; `value(i)` gives element `i` in C order.
    pub fn new(sizes: &[i64], value: impl FnMut(usize) -> T) -> Self {
        let numel = sizes.iter().product::<i64>() as usize;
        Self {
            data: (0..numel).map(value).collect(),
            offset: 0,
            sizes: sizes.to_vec(),
            strides: contiguous_strides(sizes),
        }
    }

    pub fn zeros(sizes: &[i64]) -> Self {
        Self::new(sizes, |_| T::default())
    }

    /// The same elements in another layout: every dimension's stride is spread by `step`, the
    /// dimensions lie in reversed order, and there is a gap before the first element.
    pub fn scattered(&self, step: i64) -> Self {
        let mut strides = vec![0; self.sizes.len()];
        let mut next = step;
        for (dim, &size) in self.sizes.iter().enumerate() {
            strides[dim] = next;
            next *= size.max(1) + 1;
        }
        let offset = 3;
        let mut other =
            Self { data: vec![T::default(); offset + next as usize], offset, sizes: self.sizes.clone(), strides };
        other.assign(&self.values());
        other
    }

    /// A view with dimensions `a` and `b` exchanged (the data is shared by cloning).
    pub fn transposed(mut self, a: usize, b: usize) -> Self {
        self.sizes.swap(a, b);
        self.strides.swap(a, b);
        self
    }

    /// Expanded to `sizes` by zero strides.
    pub fn expanded(mut self, sizes: &[i64]) -> Self {
        let added = sizes.len() - self.sizes.len();
        let mut strides = vec![0; added];
        for (dim, &stride) in self.strides.iter().enumerate() {
            strides.push(if self.sizes[dim] == sizes[added + dim] { stride } else { 0 });
        }
        self.sizes = sizes.to_vec();
        self.strides = strides;
        self
    }

    fn positions(&self) -> Vec<usize> {
        let numel = self.sizes.iter().product::<i64>() as usize;
        (0..numel)
            .map(|mut linear| {
                let mut position = self.offset as i64;
                for dim in (0..self.sizes.len()).rev() {
                    position += (linear as i64 % self.sizes[dim]) * self.strides[dim];
                    linear /= self.sizes[dim] as usize;
                }
                position as usize
            })
            .collect()
    }

    /// The elements in C order.
    pub fn values(&self) -> Vec<T> {
        self.positions().into_iter().map(|position| self.data[position]).collect()
    }

    pub fn assign(&mut self, values: &[T]) {
        for (position, &value) in self.positions().into_iter().zip(values) {
            self.data[position] = value;
        }
    }

    pub fn view(&self) -> View<'_> {
        // SAFETY: the tensor owns what its sizes and strides reach; tests write through the view
        // only where they hold the tensor themselves.
        unsafe {
            View::new(
                self.data.as_ptr().cast_mut().wrapping_add(self.offset).cast(),
                T::DTYPE,
                &self.sizes,
                &self.strides,
            )
        }
    }
}

/// A tensor in three layouts.
pub fn layouts<T: Item>(tensor: &Tensor<T>) -> [Tensor<T>; 3] {
    [tensor.clone(), tensor.scattered(1), tensor.scattered(3)]
}

/// The lines along `dim`, each with the places of its elements in C order.
pub fn lines(sizes: &[i64], dim: usize) -> Vec<Vec<usize>> {
    let inner: usize = sizes[dim + 1..].iter().product::<i64>() as usize;
    let length = sizes[dim] as usize;
    let outer: usize = sizes[..dim].iter().product::<i64>() as usize;
    let line = |o: usize, i: usize| (0..length).map(|at| (o * length + at) * inner + i).collect();
    (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))).map(|(o, i)| line(o, i)).collect()
}

/// Launches an op by its row.
pub fn run(op: Op, views: &[View<'_>], ints: &[i64], floats: &[f64]) -> Result<()> {
    launch(op.row(), views, &Attrs { ints, floats })
}

/// Runs a test body at every SIMD level that the machine has, with one thread and with two.
pub fn at_every_level(body: impl Fn(Level)) {
    for level in Level::available() {
        for threads in [1, 2] {
            rustorch_kernels::threads::set_num_threads(threads);
            isa::at(level, || body(level));
        }
    }
}

/// Reproducible values in [-1, 1).
pub fn noise(seed: u64) -> impl FnMut(usize) -> f64 {
    move |index| {
        let mut state =
            (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 30;
        state = state.wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Asserts that every element is within `absolute + relative * |expected|`; NaN equals NaN.
#[track_caller]
pub fn assert_close(actual: &[f64], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(actual.len(), expected.len());
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let same = actual == expected || (actual.is_nan() && expected.is_nan());
        let close = (actual - expected).abs() <= absolute + relative * expected.abs();
        assert!(same || close, "element {index}: {actual} is not {expected}");
    }
}

/// The rows of the table's pointwise section.
pub fn pointwise_rows() -> impl Iterator<Item = (&'static Row, &'static dyn Expression)> {
    OPS.iter().filter_map(|row| match row.entry {
        Entry::Pointwise(expression) => Some((row, expression)),
        Entry::Kernel(_) => None,
    })
}
