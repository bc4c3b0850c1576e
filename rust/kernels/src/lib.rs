//! The kernels of the rustorch device. They know nothing of torch, Python or FFI: a kernel takes
//! [`view::View`]s and [`view::Attrs`], and is reached by [`ops::launch`] alone.
// A list that follows a tensor's data is made by `fallible`, which refuses where these end the process.
#![cfg_attr(not(test), warn(clippy::disallowed_macros, clippy::disallowed_methods))]

pub mod alloc;
pub mod attention;
pub mod cat;
pub mod conv;
pub mod convert;
pub mod distance;
pub mod dtype;
pub mod element;
pub mod error;
pub mod fallible;
pub mod finish;
pub mod grid_sample;
pub mod index;
pub mod isa;
pub mod lanes;
pub mod lines;
pub mod loops;
pub mod loss;
pub mod math;
pub mod matmul;
pub mod norm;
pub mod ops;
pub mod optim;
pub mod order;
pub mod pool;
pub mod profile;
pub mod quantize;
pub mod random;
pub mod reduce;
pub mod resample;
pub mod rnn;
pub mod scratch;
pub mod softmax;
pub mod threads;
pub mod trace;
pub mod unfold;
pub mod validate;
pub mod value;
pub mod view;
pub mod vision;
