//! Every op, once. From these rows come the kernels' loops, the C++ registrations, the dtype
//! checks, the list that the tests run over and the op reference in the docs.
//!
//! A pointwise row:
//!
//! ```text
//! name: arity(types) [-> bool] [form: "aten overloads"] [, divides] [, keeps_number] [, opaque("why")] =
//!     |inputs; scalars| expression [, where condition => slow expression];
//! ```
//!
//! - `arity`: unary, binary, ternary.
//! - `types`: `float` (f32, f64), `integer`, `integral` (integers and bool), `numeric` (floats and
//!   integers), `all` (numeric and bool). The half types are computed in f32. `-> bool` marks a test.
//! - `form`: `structured`, where ATen has a structured meta function of that name (it does shapes,
//!   promotion and checks), or `plain`, where the arity alone says it. Rows without a form are
//!   reached from a C++ function by hand.
//! - the overloads: functional, in-place (`name_`) and `out` ones, whichever exist.
//! - `divides`: refuses a zero in an integer second input before anything is written.
//! - `keeps_number`: of half types, whose operands and results are rounded to them, a second input of one element
//!   is not.
//! - `opaque`: the expression loops, by nature, so it is not recorded ([`crate::trace`]) and has no machine code. Only
//!   that is a reason.
//! - `where`: for inputs outside of what the branch-free expression is right for.
//! - `expression`: over [`crate::value`]'s traits, free of branches; of opaque rows, over those of `element`.
//! - `scalars`: the overload's `Scalar`, `float` and `bool` arguments (in order) as `[T; 4]`.
//!
//! The rows of other classes are in `kernels.rs`.

use std::sync::OnceLock;

use super::flops;
use super::kernels::with_kernels;
use super::row::{Apply, Block, Entry, Expression, Outputs, Row, SCALARS, table};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::{Bool, Element, Float, Integral, Number};
use crate::math::activation::Activation;
use crate::math::special::Special;
use crate::math::whole::{Divisors, Whole};
use crate::trace::{Trace, Traced, record};
use crate::value::{Bitwise, Floating, Numeric, Value};

with_kernels! {
    pointwise {
        // Arithmetic.
        /// self + alpha * other
        add: binary(all) [structured: "add.Tensor", "add_.Tensor", "add.out"] = |a, b; s| a.add(s[0].mul(b));
        /// self - alpha * other
        sub: binary(numeric) [structured: "sub.Tensor", "sub_.Tensor", "sub.out"] = |a, b; s| a.sub(s[0].mul(b));
        mul: binary(all) [structured: "mul.Tensor", "mul_.Tensor", "mul.out"], keeps_number = |a, b; _| a.mul(b);
        div: binary(float) [structured: "div.Tensor", "div_.Tensor", "div.out"], keeps_number = |a, b; _| a.div(b);
        // By a number, for lists of tensors.
        add_scalar: unary(numeric) = |x; s| x.add(s[0]);
        sub_scalar: unary(numeric) = |x; s| x.sub(s[0]);
        mul_scalar: unary(numeric) = |x; s| x.mul(s[0]);
        div_scalar: unary(float) = |x; s| x.div(s[0]);
        div_floor: binary(numeric), divides, keeps_number =
            |a, b; _| a.div_floor(b), where a.is_long_quotient(b) => a.long_div_floor(b);
        div_trunc: binary(numeric), divides, keeps_number = |a, b; _| a.div_trunc(b);
        /// The result has the divisor's sign, as Python's `%`.
        remainder: binary(numeric) [structured:
            "remainder.Tensor", "remainder_.Tensor", "remainder.Tensor_out"], divides =
            |a, b; _| a.remainder(b), where a.is_long_quotient(b) => a.long_remainder(b);
        /// The result has the dividend's sign, as C's `fmod`.
        fmod: binary(numeric) [structured: "fmod.Tensor", "fmod_.Tensor", "fmod.Tensor_out"], divides =
            |a, b; _| a.fmod(b), where a.is_long_quotient(b) => a.long_fmod(b);
        pow: binary(numeric) [structured: "pow.Tensor_Tensor", "pow_.Tensor", "pow.Tensor_Tensor_out"] =
            |a, b; _| a.pow(b);
        pow_scalar: unary(all) [structured: "pow.Tensor_Scalar", "pow_.Scalar", "pow.Tensor_Scalar_out"] =
            |x; s| x.raised(s[0]);
        // Powers of which PyTorch makes products.
        cube: unary(float) = |x; _| x.mul(x).mul(x);
        reciprocal_square: unary(float) = |x; _| T::ONE.div(x.mul(x));
        maximum: binary(all) [structured: "maximum", "maximum.out"] = |a, b; _| a.max(b);
        minimum: binary(all) [structured: "minimum", "minimum.out"] = |a, b; _| a.min(b);
        fmax: binary(all) [structured: "fmax", "fmax.out"] = |a, b; _| T::select(a.is_nan() | b.gt(a), b, a);
        fmin: binary(all) [structured: "fmin", "fmin.out"] = |a, b; _| T::select(a.is_nan() | b.lt(a), b, a);
        /// Scalars: min, max; a missing one is the lowest or highest value.
        clamp: unary(numeric) = |x; s| x.max(s[0]).min(s[1]);
        /// self, min, max
        clamp_tensor: ternary(numeric) = |a, b, c; _| a.max(b).min(c);
        clamp_min: unary(numeric) [structured: "clamp_min", "clamp_min_", "clamp_min.out"] = |x; s| x.max(s[0]);
        clamp_min_tensor: binary(all) [structured: "clamp_min.Tensor", "clamp_min_.Tensor", "clamp_min.Tensor_out"] =
            |a, b; _| a.max(b);
        clamp_max: unary(numeric) [structured: "clamp_max", "clamp_max_", "clamp_max.out"] = |x; s| x.min(s[0]);
        clamp_max_tensor: binary(all) [structured: "clamp_max.Tensor", "clamp_max_.Tensor", "clamp_max.Tensor_out"] =
            |a, b; _| a.min(b);
        lerp_scalar: binary(float) [structured: "lerp.Scalar", "lerp_.Scalar", "lerp.Scalar_out"] =
            |a, b; s| a.lerp(b, s[0]);
        lerp_tensor: ternary(float) [structured: "lerp.Tensor", "lerp_.Tensor", "lerp.Tensor_out"] =
            |a, b, c; _| a.lerp(b, c);
        /// self + value * tensor1 * tensor2
        addcmul: ternary(numeric) [structured: "addcmul", "addcmul_", "addcmul.out"] =
            |a, b, c; s| a.add(s[0].mul(b).mul(c));
        /// self + value * tensor1 / tensor2
        addcdiv: ternary(float) [structured: "addcdiv", "addcdiv_", "addcdiv.out"] =
            |a, b, c; s| a.add(s[0].mul(b).div(c));
        /// self * tensor1 + tensor2, rounded once.
        mul_add: ternary(float) = |a, b, c; _| a.mul_add(b, c);
        // Signs and rounding.
        neg: unary(numeric) [structured: "neg", "neg_", "neg.out"] = |x; _| x.neg();
        abs: unary(numeric) [plain: "abs", "abs_", "abs.out"] = |x; _| x.abs();
        sign: unary(all) [structured: "sign", "sign_", "sign.out"] = |x; _| x.sign();
        sgn: unary(all) [structured: "sgn", "sgn_", "sgn.out"] = |x; _| x.sign();
        copysign: binary(float) [structured: "copysign.Tensor", "copysign_.Tensor", "copysign.out"] =
            |a, b; _| a.copysign(b);
        floor: unary(numeric) [structured: "floor", "floor_", "floor.out"] = |x; _| x.floor();
        ceil: unary(numeric) [structured: "ceil", "ceil_", "ceil.out"] = |x; _| x.ceil();
        round: unary(numeric) [structured: "round", "round_", "round.out"] = |x; _| x.round_even();
        trunc: unary(numeric) [structured: "trunc", "trunc_", "trunc.out"] = |x; _| x.trunc();
        frac: unary(float) [structured: "frac", "frac_", "frac.out"] = |x; _| x.sub(x.trunc());
        // Elementary functions.
        reciprocal: unary(float) [structured: "reciprocal", "reciprocal_", "reciprocal.out"] = |x; _| T::ONE.div(x);
        sqrt: unary(float) [structured: "sqrt", "sqrt_", "sqrt.out"] = |x; _| x.sqrt();
        rsqrt: unary(float) [structured: "rsqrt", "rsqrt_", "rsqrt.out"] = |x; _| T::ONE.div(x.sqrt());
        exp: unary(float) [structured: "exp", "exp_", "exp.out"] = |x; _| x.exp();
        exp2: unary(float) [structured: "exp2", "exp2_", "exp2.out"] = |x; _| x.exp2();
        expm1: unary(float) [structured: "expm1", "expm1_", "expm1.out"] = |x; _| x.exp_m1();
        log: unary(float) [structured: "log", "log_", "log.out"] = |x; _| x.ln();
        log1p: unary(float) [structured: "log1p", "log1p_", "log1p.out"] = |x; _| x.ln_1p();
        log2: unary(float) [structured: "log2", "log2_", "log2.out"] = |x; _| x.log2();
        log10: unary(float) [structured: "log10", "log10_", "log10.out"] = |x; _| x.log10();
        sin: unary(float) [structured: "sin", "sin_", "sin.out"] = |x; _| x.sin(), where x.is_far() => x.sin_far();
        cos: unary(float) [structured: "cos", "cos_", "cos.out"] = |x; _| x.cos(), where x.is_far() => x.cos_far();
        tan: unary(float) [structured: "tan", "tan_", "tan.out"] = |x; _| x.tan(), where x.is_far() => x.tan_far();
        asin: unary(float) [structured: "asin", "asin_", "asin.out"] = |x; _| x.asin();
        acos: unary(float) [structured: "acos", "acos_", "acos.out"] = |x; _| x.acos();
        atan: unary(float) [structured: "atan", "atan_", "atan.out"] = |x; _| x.atan();
        sinh: unary(float) [structured: "sinh", "sinh_", "sinh.out"] = |x; _| x.sinh();
        cosh: unary(float) [structured: "cosh", "cosh_", "cosh.out"] = |x; _| x.cosh();
        tanh: unary(float) [structured: "tanh", "tanh_", "tanh.out"] = |x; _| x.tanh();
        asinh: unary(float) [structured: "asinh", "asinh_", "asinh.out"] = |x; _| x.asinh();
        acosh: unary(float) [structured: "acosh", "acosh_", "acosh.out"] = |x; _| x.acosh();
        atanh: unary(float) [structured: "atanh", "atanh_", "atanh.out"] = |x; _| x.atanh();
        erf: unary(float) [structured: "erf", "erf_", "erf.out"] = |x; _| x.erf();
        erfc: unary(float) [structured: "erfc", "erfc_", "erfc.out"] = |x; _| x.erfc();
        sigmoid: unary(float) [structured: "sigmoid", "sigmoid_", "sigmoid.out"] = |x; _| x.sigmoid();
        atan2: binary(float) [structured: "atan2", "atan2_", "atan2.out"] = |a, b; _| a.atan2(b);
        hypot: binary(float) [structured: "hypot", "hypot_", "hypot.out"] = |a, b; _| a.hypot(b);
        logaddexp: binary(float) [structured: "logaddexp", "logaddexp.out"] = |a, b; _| a.log_add_exp(b);
        logaddexp2: binary(float) [structured: "logaddexp2", "logaddexp2.out"] = |a, b; _| a.log_add_exp2(b);
        xlogy: binary(float) [structured: "xlogy.Tensor", "xlogy_.Tensor", "xlogy.OutTensor"] =
            |a, b; _| T::select(a.eq(T::ZERO) & !b.is_nan(), T::ZERO, a.mul(b.ln()));
        xlog1py: binary(float) [structured: "special_xlog1py", "special_xlog1py.out"] =
            |a, b; _| T::select(a.eq(T::ZERO) & !b.is_nan(), T::ZERO, a.mul(b.ln_1p()));
        sinc: unary(float) [structured: "sinc", "sinc_", "sinc.out"] =
            |x; _| x.sinc(), where x.half_turns().is_far() => x.half_turns().sin_far().div(x.half_turns());
        /// The angle of a real number: 0, pi or NaN.
        angle: unary(float) = |x; _| x.angle();
        /// Scalar: the number of decimals.
        round_decimals: unary(float) [structured: "round.decimals", "round_.decimals", "round.decimals_out"] =
            |x; s| x.round_decimals(s[0]);
        frexp_mantissa: unary(float) = |x; _| x.frexp_mantissa();
        frexp_exponent: unary(float) = |x; _| x.frexp_exponent();
        /// Of a norm, what brings it down to the scalar where it is above.
        renorm_factor: unary(float) =
            |norm; s| T::select(norm.gt(s[0]), s[0].div(norm.add(T::constant(1e-7))), T::ONE);
        // Special functions.
        lgamma: unary(float) [structured: "lgamma", "lgamma_", "lgamma.out"], opaque("has regions and series") = |x; _| x.lgamma();
        digamma: unary(float) [structured: "digamma", "digamma_", "digamma.out"], opaque("climbs until its series converges") = |x; _| x.digamma();
        /// Scalar: the order.
        polygamma: unary(float) [structured: "polygamma", "polygamma.out"], opaque("sums a series") = |x; s| x.polygamma(s[0]);
        igamma: binary(float) [structured: "igamma", "igamma_", "igamma.out"], opaque("iterates until it converges") = |a, x; _| a.igamma(x);
        igammac: binary(float) [structured: "igammac", "igammac_", "igammac.out"], opaque("iterates until it converges") = |a, x; _| a.igammac(x);
        zeta: binary(float) [structured: "special_zeta", "special_zeta.out"], opaque("sums a series") = |x, q; _| x.zeta(q);
        erfinv: unary(float) [structured: "erfinv", "erfinv_", "erfinv.out"] = |x; _| x.erfinv();
        erfcx: unary(float) [structured: "special_erfcx", "special_erfcx.out"], opaque("has regions, each with a series") = |x; _| x.erfcx();
        ndtri: unary(float) [structured: "special_ndtri", "special_ndtri.out"], opaque("has regions, each with a series") = |x; _| x.ndtri();
        log_ndtr: unary(float) [structured: "special_log_ndtr", "special_log_ndtr.out"], opaque("has regions, each with a series") = |x; _| x.log_ndtr();
        i0: unary(float) [structured: "i0", "i0_", "i0.out"], opaque("sums a series") = |x; _| x.i0();
        i0e: unary(float) [structured: "special_i0e", "special_i0e.out"], opaque("sums a series") = |x; _| x.i0e();
        i1: unary(float) [structured: "special_i1", "special_i1.out"], opaque("sums a series") = |x; _| x.i1();
        i1e: unary(float) [structured: "special_i1e", "special_i1e.out"], opaque("sums a series") = |x; _| x.i1e();
        /// How a draw of the gamma distribution moves with its shape, of which it is the second input.
        standard_gamma_grad: binary(float), opaque("has regions, each with a series") = |alpha, x; _| alpha.standard_gamma_grad(x);
        /// How a share of the Dirichlet distribution moves with its alpha; then the total of alphas.
        dirichlet_grad: ternary(float), opaque("has regions, each with a series") = |x, alpha, total; _| x.dirichlet_grad(alpha, total);
        /// -x ln(x); 0 at 0.
        entr: unary(float) [structured: "special_entr", "special_entr.out"] = |x; _| x.entr();
        /// Scalar: eps, negative where it was not given.
        logit: unary(float) = |x; s| x.logit(s[0]);
        /// Scalar: eps, negative where it was not given.
        logit_backward: binary(float) = |grad, x; s| x.logit_backward(grad, s[0]);
        /// Scalars: what NaN, infinity and minus infinity become.
        nan_to_num: unary(float) = |x; s| x.nan_to_num(s[0], s[1], s[2]);
        // Tests and comparisons.
        isnan: unary(all) -> bool [plain: "isnan", "isnan.out"] = |x; _| x.is_nan();
        isinf: unary(all) -> bool [plain: "isinf", "isinf.out"] = |x; _| x.is_infinite();
        isposinf: unary(all) -> bool [structured: "isposinf", "isposinf.out"] = |x; _| x.is_infinite() & x.gt(T::ZERO);
        isneginf: unary(all) -> bool [structured: "isneginf", "isneginf.out"] = |x; _| x.is_infinite() & x.lt(T::ZERO);
        signbit: unary(all) -> bool [structured: "signbit", "signbit.out"] = |x; _| x.is_sign_negative();
        eq: binary(all) -> bool [structured: "eq.Tensor", "eq_.Tensor", "eq.Tensor_out"] = |a, b; _| a.eq(b);
        eq_scalar: unary(all) -> bool [structured: "eq.Scalar", "eq_.Scalar", "eq.Scalar_out"] = |x; s| x.eq(s[0]);
        ne: binary(all) -> bool [structured: "ne.Tensor", "ne_.Tensor", "ne.Tensor_out"] = |a, b; _| a.ne(b);
        ne_scalar: unary(all) -> bool [structured: "ne.Scalar", "ne_.Scalar", "ne.Scalar_out"] = |x; s| x.ne(s[0]);
        lt: binary(all) -> bool [structured: "lt.Tensor", "lt_.Tensor", "lt.Tensor_out"] = |a, b; _| a.lt(b);
        lt_scalar: unary(all) -> bool [structured: "lt.Scalar", "lt_.Scalar", "lt.Scalar_out"] = |x; s| x.lt(s[0]);
        le: binary(all) -> bool [structured: "le.Tensor", "le_.Tensor", "le.Tensor_out"] = |a, b; _| a.le(b);
        le_scalar: unary(all) -> bool [structured: "le.Scalar", "le_.Scalar", "le.Scalar_out"] = |x; s| x.le(s[0]);
        gt: binary(all) -> bool [structured: "gt.Tensor", "gt_.Tensor", "gt.Tensor_out"] = |a, b; _| a.gt(b);
        gt_scalar: unary(all) -> bool [structured: "gt.Scalar", "gt_.Scalar", "gt.Scalar_out"] = |x; s| x.gt(s[0]);
        ge: binary(all) -> bool [structured: "ge.Tensor", "ge_.Tensor", "ge.Tensor_out"] = |a, b; _| a.ge(b);
        ge_scalar: unary(all) -> bool [structured: "ge.Scalar", "ge_.Scalar", "ge.Scalar_out"] = |x; s| x.ge(s[0]);
        logical_not: unary(all) -> bool [plain: "logical_not", "logical_not_", "logical_not.out"] = |x; _| !x.is_true();
        logical_and: binary(all) -> bool [plain: "logical_and", "logical_and_", "logical_and.out"] =
            |a, b; _| a.is_true() & b.is_true();
        logical_or: binary(all) -> bool [plain: "logical_or", "logical_or_", "logical_or.out"] =
            |a, b; _| a.is_true() | b.is_true();
        logical_xor: binary(all) -> bool [plain: "logical_xor", "logical_xor_", "logical_xor.out"] =
            |a, b; _| a.is_true() ^ b.is_true();
        heaviside: binary(all) [structured: "heaviside", "heaviside_", "heaviside.out"] =
            |a, b; _| T::select(a.eq(T::ZERO), b, T::from_mask(a.gt(T::ZERO)));
        /// condition, self, other
        where_self: ternary(all) = |a, b, c; _| T::select(a.is_true(), b, c);
        /// self, mask; scalar: the value.
        masked_fill: binary(all) = |a, b; s| T::select(b.is_true(), s[0], a);
        // Bits.
        bitwise_not: unary(integral) [structured: "bitwise_not", "bitwise_not_", "bitwise_not.out"] = |x; _| x.not();
        bitwise_and: binary(integral) [structured:
            "bitwise_and.Tensor", "bitwise_and_.Tensor", "bitwise_and.Tensor_out"] =
            |a, b; _| a.and(b);
        bitwise_or: binary(integral) [structured: "bitwise_or.Tensor", "bitwise_or_.Tensor", "bitwise_or.Tensor_out"] =
            |a, b; _| a.or(b);
        bitwise_xor: binary(integral) [structured:
            "bitwise_xor.Tensor", "bitwise_xor_.Tensor", "bitwise_xor.Tensor_out"] =
            |a, b; _| a.xor(b);
        bitwise_left_shift: binary(integer) [structured:
            "bitwise_left_shift.Tensor", "bitwise_left_shift_.Tensor", "bitwise_left_shift.Tensor_out"] =
            |a, b; _| a.shift_left(b);
        bitwise_right_shift: binary(integer) [structured:
            "bitwise_right_shift.Tensor", "bitwise_right_shift_.Tensor", "bitwise_right_shift.Tensor_out"] =
            |a, b; _| a.shift_right(b);
        gcd: binary(integer) [structured: "gcd", "gcd_", "gcd.out"], opaque("runs Euclid's loop") = |a, b; _| a.gcd(b);
        lcm: binary(integer) [structured: "lcm", "lcm_", "lcm.out"], opaque("runs Euclid's loop") = |a, b; _| a.lcm(b);
        /// The neighbour of a float, on the bits of both; scalar: infinity's bits.
        nextafter: binary(integer) = |a, b; s| a.next_after(b, s[0]);
        // Activations.
        relu: unary(numeric) [plain: "relu", "relu_", "relu.out"] = |x; _| T::select(x.lt(T::ZERO), T::ZERO, x);
        threshold: unary(numeric) [structured: "threshold", "threshold_", "threshold.out"] =
            |x; s| T::select(x.le(s[0]), s[1], x);
        threshold_backward: binary(numeric) [structured: "threshold_backward", "threshold_backward.grad_input"] =
            |grad, x; s| T::select(x.le(s[0]), T::ZERO, grad);
        leaky_relu: unary(float) [structured: "leaky_relu", "leaky_relu_", "leaky_relu.out"] =
            |x; s| T::select(x.gt(T::ZERO), x, x.mul(s[0]));
        leaky_relu_backward: binary(float) [structured: "leaky_relu_backward", "leaky_relu_backward.grad_input"] =
            |grad, x; s| T::select(x.gt(T::ZERO), grad, grad.mul(s[0]));
        hardtanh: unary(numeric) [plain: "hardtanh", "hardtanh_", "hardtanh.out"] = |x; s| x.max(s[0]).min(s[1]);
        hardtanh_backward: binary(float) [plain: "hardtanh_backward", "hardtanh_backward.grad_input"] =
            |grad, x; s| T::select(x.le(s[0]) | x.ge(s[1]), T::ZERO, grad);
        hardsigmoid: unary(float) [structured: "hardsigmoid", "hardsigmoid_", "hardsigmoid.out"] =
            |x; _| x.relu6_of_plus_three().div(T::constant(6.0));
        hardsigmoid_backward: binary(float) [structured: "hardsigmoid_backward", "hardsigmoid_backward.grad_input"] =
            |grad, x; _| T::select(x.abs().lt(T::constant(3.0)), grad.mul(T::constant(1.0 / 6.0)), T::ZERO);
        hardswish: unary(float) [plain: "hardswish", "hardswish_", "hardswish.out"] =
            |x; _| x.mul(x.relu6_of_plus_three()).div(T::constant(6.0));
        hardswish_backward: binary(float) [plain: "hardswish_backward", "hardswish_backward.out"] =
            |grad, x; _| x.hardswish_backward(grad);
        /// Scalars: alpha, scale, input_scale.
        elu: unary(float) [structured: "elu", "elu_", "elu.out"] = |x; s| x.elu(s[0], s[1], s[2]);
        /// Scalars: alpha, scale, input_scale, is_result.
        elu_backward: binary(float) [structured: "elu_backward", "elu_backward.grad_input"] =
            |grad, x; s| x.elu_backward(grad, s);
        silu: unary(float) [structured: "silu", "silu_", "silu.out"] = |x; _| x.div(T::ONE.add(x.neg().exp()));
        silu_backward: binary(float) [structured: "silu_backward", "silu_backward.grad_input"] =
            |grad, x; _| x.silu_backward(grad);
        gelu_none: unary(float) = |x; _| x.mul(x.normal_cdf());
        gelu_tanh: unary(float) = |x; _| x.gelu_tanh();
        gelu_backward_none: binary(float) = |grad, x; _| x.gelu_backward_none(grad);
        gelu_backward_tanh: binary(float) = |grad, x; _| x.gelu_backward_tanh(grad);
        mish: unary(float) [structured: "mish", "mish_", "mish.out"] = |x; _| x.mul(x.tanh_softplus());
        mish_backward: binary(float) [plain: "mish_backward"] = |grad, x; _| x.mish_backward(grad);
        /// Scalars: beta, threshold.
        softplus: unary(float) [structured: "softplus", "softplus.out"] = |x; s| x.softplus(s[0], s[1]);
        /// Scalars: beta, threshold.
        softplus_backward: binary(float) [structured: "softplus_backward", "softplus_backward.grad_input"] =
            |grad, x; s| x.softplus_backward(grad, s[0], s[1]);
        sigmoid_backward: binary(float) [structured: "sigmoid_backward", "sigmoid_backward.grad_input"] =
            |grad, y; _| grad.mul(T::ONE.sub(y)).mul(y);
        tanh_backward: binary(float) [structured: "tanh_backward", "tanh_backward.grad_input"] =
            |grad, y; _| grad.mul(T::ONE.sub(y.mul(y)));
        log_sigmoid: unary(float) = |x; _| x.min(T::ZERO).sub(x.abs().neg().exp().ln_1p());
        log_sigmoid_backward: binary(float) = |grad, x; _| grad.mul(x.neg().sigmoid());
        hardshrink: unary(float) [structured: "hardshrink", "hardshrink.out"] =
            |x; s| T::select(x.abs().le(s[0]), T::ZERO, x);
        hardshrink_backward: binary(float) [structured: "hardshrink_backward", "hardshrink_backward.grad_input"] =
            |grad, x; s| T::select(x.abs().le(s[0]), T::ZERO, grad);
        softshrink: unary(float) [structured: "softshrink", "softshrink.out"] = |x; s| x.softshrink(s[0]);
        softshrink_backward: binary(float) [structured: "softshrink_backward", "softshrink_backward.grad_input"] =
            |grad, x; s| T::select(x.abs().le(s[0]), T::ZERO, grad);
        /// The first half, gated by the second.
        glu: binary(float) = |a, b; _| a.mul(b.sigmoid());
        /// grad, first half, gate
        glu_gate_backward: ternary(float) =
            |grad, a, b; _| grad.mul(a).mul(b.sigmoid()).mul(T::ONE.sub(b.sigmoid()));
        /// self, weight
        prelu: binary(float) = |x, weight; _| T::select(x.gt(T::ZERO), x, weight.mul(x));
        /// grad, self, weight
        prelu_input_backward: ternary(float) =
            |grad, x, weight; _| T::select(x.gt(T::ZERO), grad, weight.mul(grad));
        prelu_weight_backward: binary(float) = |grad, x; _| T::select(x.gt(T::ZERO), T::ZERO, x.mul(grad));
        // Losses, before their reduction; `norm` is what the reduction multiplies the gradient by.
        mse_elementwise: binary(float) = |a, b; _| a.sub(b).mul(a.sub(b));
        /// Scalar: 2 * norm.
        mse_backward: ternary(float) = |grad, a, b; s| s[0].mul(a.sub(b)).mul(grad);
        /// Scalar: beta.
        smooth_l1_elementwise: binary(float) = |a, b; s| a.sub(b).abs().smooth_l1(s[0]);
        /// Scalars: norm, beta.
        smooth_l1_backward: ternary(float) = |grad, a, b; s| a.sub(b).smooth_l1_backward(s[0].mul(grad), s[1]);
        /// Scalar: delta.
        huber_elementwise: binary(float) = |a, b; s| a.sub(b).abs().huber(s[0]);
        /// Scalars: norm, delta.
        huber_backward: ternary(float) = |grad, a, b; s| a.sub(b).max(s[1].neg()).min(s[1]).mul(s[0].mul(grad));
        binary_cross_entropy: binary(float) = |x, target; _| x.binary_cross_entropy(target);
        /// Scalar: norm.
        binary_cross_entropy_backward: ternary(float) =
            |grad, x, target; s| x.binary_cross_entropy_backward(target, s[0].mul(grad));
    }
}
