//! Every op, once. From these rows come the kernels' loops, the C++ registrations, the dtype
//! checks, the list that the tests run over and the op reference in the docs.
//!
//! A pointwise row:
//!
//! ```text
//! name: arity(types) [-> bool] [form: "aten overloads"] = |inputs; scalars| expression;
//! ```
//!
//! - `arity`: unary, binary, ternary.
//! - `types`: `float` (f32, f64), `numeric` (and integers), `all` (and bool). The half types are
//!   computed in f32. `-> bool` marks a test.
//! - `form`: `structured`, where ATen has a structured meta function of that name (it does shapes,
//!   promotion and checks), or `plain`, where the arity alone says it. Rows without a form are
//!   reached from a C++ function by hand.
//! - the overloads: functional, in-place (`name_`) and `out` ones, whichever exist.
//! - `scalars`: the overload's `Scalar` arguments (numbers, in order) as `[T; 4]`.
//!
//! A kernel row names the function of its file and how many of its first views it writes.

use super::row::{Apply, Block, Entry, Expression, Outputs, Row, SCALARS, table};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::{Bool, Element, Float};

table! {
    pointwise {
        /// self + alpha * other
        add: binary(all) [structured: "add.Tensor", "add_.Tensor", "add.out"] = |a, b; s| a.add(s[0].mul(b));
        relu: unary(numeric) [plain: "relu", "relu_", "relu.out"] = |x; _| if x < T::ZERO { T::ZERO } else { x };
        exp: unary(float) [structured: "exp", "exp_", "exp.out"] = |x; _| x.exp();
        eq: binary(all) -> bool [structured: "eq.Tensor", "eq_.Tensor", "eq.Tensor_out"] = |a, b; _| a == b;
    }
    kernels {
        /// Copies and casts: `[to, from]` of one shape.
        copy = crate::loops::copy::launch, outputs 1;
    }
}
