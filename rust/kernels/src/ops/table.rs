//! Every op, once. From these rows come the kernels' loops, the C++ registrations, the dtype
//! checks, the list that the tests run over and the op reference in the docs.
//!
//! A pointwise row:
//!
//! ```text
//! name: arity(types) [-> bool] [form: "aten overloads"] [, divides] =
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
//! - `where`: for inputs outside of what the branch-free expression is right for.
//! - `scalars`: the overload's `Scalar`, `float` and `bool` arguments (in order) as `[T; 4]`.
//!
//! A kernel row names the function of its file and how many of its first views it writes. After it:
//! `random` where it draws from the generator; `in_place` where what it writes may be an input (a
//! launch refuses that of other kernels; pointwise ops all may); and `flops` with the rule of
//! `flops.rs` by which a profile counts its arithmetic; a row without one only moves elements.

use super::flops;
use super::row::{Apply, Block, Entry, Expression, Outputs, Row, SCALARS, table};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::{Bool, Element, Float, Integral, Number};
use crate::math::activation::Activation;
use crate::math::special::Special;
use crate::math::whole::Whole;

table! {
    pointwise {
        // Arithmetic.
        /// self + alpha * other
        add: binary(all) [structured: "add.Tensor", "add_.Tensor", "add.out"] = |a, b; s| a.add(s[0].mul(b));
        /// self - alpha * other
        sub: binary(numeric) [structured: "sub.Tensor", "sub_.Tensor", "sub.out"] = |a, b; s| a.sub(s[0].mul(b));
        mul: binary(all) [structured: "mul.Tensor", "mul_.Tensor", "mul.out"] = |a, b; _| a.mul(b);
        div: binary(float) [structured: "div.Tensor", "div_.Tensor", "div.out"] = |a, b; _| a.div(b);
        // By a number, for lists of tensors.
        add_scalar: unary(numeric) = |x; s| x.add(s[0]);
        sub_scalar: unary(numeric) = |x; s| x.sub(s[0]);
        mul_scalar: unary(numeric) = |x; s| x.mul(s[0]);
        div_scalar: unary(float) = |x; s| x.div(s[0]);
        div_floor: binary(numeric), divides = |a, b; _| a.div_floor(b);
        div_trunc: binary(numeric), divides = |a, b; _| a.div_trunc(b);
        /// The result has the divisor's sign, as Python's `%`.
        remainder: binary(numeric) [structured:
            "remainder.Tensor", "remainder_.Tensor", "remainder.Tensor_out"], divides =
            |a, b; _| a.remainder(b);
        /// The result has the dividend's sign, as C's `fmod`.
        fmod: binary(numeric) [structured: "fmod.Tensor", "fmod_.Tensor", "fmod.Tensor_out"], divides =
            |a, b; _| a.fmod(b);
        pow: binary(numeric) [structured: "pow.Tensor_Tensor", "pow_.Tensor", "pow.Tensor_Tensor_out"] =
            |a, b; _| a.pow(b);
        pow_scalar: unary(numeric) [structured: "pow.Tensor_Scalar", "pow_.Scalar", "pow.Tensor_Scalar_out"] =
            |x; s| x.pow(s[0]);
        maximum: binary(all) [structured: "maximum", "maximum.out"] = |a, b; _| a.max(b);
        minimum: binary(all) [structured: "minimum", "minimum.out"] = |a, b; _| a.min(b);
        fmax: binary(all) [structured: "fmax", "fmax.out"] = |a, b; _| if a.is_nan() || b > a { b } else { a };
        fmin: binary(all) [structured: "fmin", "fmin.out"] = |a, b; _| if a.is_nan() || b < a { b } else { a };
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
        tan: unary(float) [structured: "tan", "tan_", "tan.out"] = |x; _| x.tan();
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
            |a, b; _| if a == T::ZERO && !b.is_nan() { T::ZERO } else { a.mul(b.ln()) };
        xlog1py: binary(float) [structured: "special_xlog1py", "special_xlog1py.out"] =
            |a, b; _| if a == T::ZERO && !b.is_nan() { T::ZERO } else { a.mul(b.ln_1p()) };
        sinc: unary(float) [structured: "sinc", "sinc_", "sinc.out"] =
            |x; _| x.sinc(), where x.half_turns().is_far() => x.sinc_far();
        /// The angle of a real number: 0, pi or NaN.
        angle: unary(float) = |x; _| x.angle();
        /// Scalar: the number of decimals.
        round_decimals: unary(float) [structured: "round.decimals", "round_.decimals", "round.decimals_out"] =
            |x; s| x.round_decimals(s[0]);
        frexp_mantissa: unary(float) = |x; _| x.frexp_mantissa();
        frexp_exponent: unary(float) = |x; _| x.frexp_exponent();
        /// Of a norm, what brings it down to the scalar where it is above.
        renorm_factor: unary(float) =
            |norm; s| if norm > s[0] { s[0].div(norm.add(T::constant(1e-7))) } else { T::ONE };
        // Special functions.
        lgamma: unary(float) [structured: "lgamma", "lgamma_", "lgamma.out"] = |x; _| x.lgamma();
        digamma: unary(float) [structured: "digamma", "digamma_", "digamma.out"] = |x; _| x.digamma();
        /// Scalar: the order.
        polygamma: unary(float) [structured: "polygamma", "polygamma.out"] = |x; s| x.polygamma(s[0]);
        igamma: binary(float) [structured: "igamma", "igamma_", "igamma.out"] = |a, x; _| a.igamma(x);
        igammac: binary(float) [structured: "igammac", "igammac_", "igammac.out"] = |a, x; _| a.igammac(x);
        zeta: binary(float) [structured: "special_zeta", "special_zeta.out"] = |x, q; _| x.zeta(q);
        erfinv: unary(float) [structured: "erfinv", "erfinv_", "erfinv.out"] = |x; _| x.erfinv();
        erfcx: unary(float) [structured: "special_erfcx", "special_erfcx.out"] = |x; _| x.erfcx();
        ndtri: unary(float) [structured: "special_ndtri", "special_ndtri.out"] = |x; _| x.ndtri();
        log_ndtr: unary(float) [structured: "special_log_ndtr", "special_log_ndtr.out"] = |x; _| x.log_ndtr();
        i0: unary(float) [structured: "i0", "i0_", "i0.out"] = |x; _| x.i0();
        i0e: unary(float) [structured: "special_i0e", "special_i0e.out"] = |x; _| x.i0e();
        i1: unary(float) [structured: "special_i1", "special_i1.out"] = |x; _| x.i1();
        i1e: unary(float) [structured: "special_i1e", "special_i1e.out"] = |x; _| x.i1e();
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
        isposinf: unary(all) -> bool [structured: "isposinf", "isposinf.out"] = |x; _| x.is_infinite() && x > T::ZERO;
        isneginf: unary(all) -> bool [structured: "isneginf", "isneginf.out"] = |x; _| x.is_infinite() && x < T::ZERO;
        signbit: unary(all) -> bool [structured: "signbit", "signbit.out"] = |x; _| x.is_sign_negative();
        eq: binary(all) -> bool [structured: "eq.Tensor", "eq_.Tensor", "eq.Tensor_out"] = |a, b; _| a == b;
        eq_scalar: unary(all) -> bool [structured: "eq.Scalar", "eq_.Scalar", "eq.Scalar_out"] = |x; s| x == s[0];
        ne: binary(all) -> bool [structured: "ne.Tensor", "ne_.Tensor", "ne.Tensor_out"] = |a, b; _| a != b;
        ne_scalar: unary(all) -> bool [structured: "ne.Scalar", "ne_.Scalar", "ne.Scalar_out"] = |x; s| x != s[0];
        lt: binary(all) -> bool [structured: "lt.Tensor", "lt_.Tensor", "lt.Tensor_out"] = |a, b; _| a < b;
        lt_scalar: unary(all) -> bool [structured: "lt.Scalar", "lt_.Scalar", "lt.Scalar_out"] = |x; s| x < s[0];
        le: binary(all) -> bool [structured: "le.Tensor", "le_.Tensor", "le.Tensor_out"] = |a, b; _| a <= b;
        le_scalar: unary(all) -> bool [structured: "le.Scalar", "le_.Scalar", "le.Scalar_out"] = |x; s| x <= s[0];
        gt: binary(all) -> bool [structured: "gt.Tensor", "gt_.Tensor", "gt.Tensor_out"] = |a, b; _| a > b;
        gt_scalar: unary(all) -> bool [structured: "gt.Scalar", "gt_.Scalar", "gt.Scalar_out"] = |x; s| x > s[0];
        ge: binary(all) -> bool [structured: "ge.Tensor", "ge_.Tensor", "ge.Tensor_out"] = |a, b; _| a >= b;
        ge_scalar: unary(all) -> bool [structured: "ge.Scalar", "ge_.Scalar", "ge.Scalar_out"] = |x; s| x >= s[0];
        logical_not: unary(all) -> bool [plain: "logical_not", "logical_not_", "logical_not.out"] = |x; _| !x.is_true();
        logical_and: binary(all) -> bool [plain: "logical_and", "logical_and_", "logical_and.out"] =
            |a, b; _| a.is_true() & b.is_true();
        logical_or: binary(all) -> bool [plain: "logical_or", "logical_or_", "logical_or.out"] =
            |a, b; _| a.is_true() | b.is_true();
        logical_xor: binary(all) -> bool [plain: "logical_xor", "logical_xor_", "logical_xor.out"] =
            |a, b; _| a.is_true() ^ b.is_true();
        heaviside: binary(all) [structured: "heaviside", "heaviside_", "heaviside.out"] =
            |a, b; _| if a == T::ZERO { b } else { T::from_bool(a > T::ZERO) };
        /// condition, self, other
        where_self: ternary(all) = |a, b, c; _| if a.is_true() { b } else { c };
        /// self, mask; scalar: the value.
        masked_fill: binary(all) = |a, b; s| if b.is_true() { s[0] } else { a };
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
        gcd: binary(integer) [structured: "gcd", "gcd_", "gcd.out"] = |a, b; _| a.gcd(b);
        lcm: binary(integer) [structured: "lcm", "lcm_", "lcm.out"] = |a, b; _| a.lcm(b);
        /// The neighbour of a float, on the bits of both; scalar: infinity's bits.
        nextafter: binary(integer) = |a, b; s| a.next_after(b, s[0]);
        // Activations.
        relu: unary(numeric) [plain: "relu", "relu_", "relu.out"] = |x; _| if x < T::ZERO { T::ZERO } else { x };
        threshold: unary(numeric) [structured: "threshold", "threshold_", "threshold.out"] =
            |x; s| if x <= s[0] { s[1] } else { x };
        threshold_backward: binary(numeric) [structured: "threshold_backward", "threshold_backward.grad_input"] =
            |grad, x; s| if x <= s[0] { T::ZERO } else { grad };
        leaky_relu: unary(float) [structured: "leaky_relu", "leaky_relu_", "leaky_relu.out"] =
            |x; s| if x > T::ZERO { x } else { x.mul(s[0]) };
        leaky_relu_backward: binary(float) [structured: "leaky_relu_backward", "leaky_relu_backward.grad_input"] =
            |grad, x; s| if x > T::ZERO { grad } else { grad.mul(s[0]) };
        hardtanh: unary(numeric) [plain: "hardtanh", "hardtanh_", "hardtanh.out"] = |x; s| x.max(s[0]).min(s[1]);
        hardtanh_backward: binary(float) [plain: "hardtanh_backward", "hardtanh_backward.grad_input"] =
            |grad, x; s| if x <= s[0] || x >= s[1] { T::ZERO } else { grad };
        hardsigmoid: unary(float) [structured: "hardsigmoid", "hardsigmoid_", "hardsigmoid.out"] =
            |x; _| x.relu6_of_plus_three().div(T::constant(6.0));
        hardsigmoid_backward: binary(float) [structured: "hardsigmoid_backward", "hardsigmoid_backward.grad_input"] =
            |grad, x; _| if x.abs() < T::constant(3.0) { grad.mul(T::constant(1.0 / 6.0)) } else { T::ZERO };
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
            |x; s| if x.abs() <= s[0] { T::ZERO } else { x };
        hardshrink_backward: binary(float) [structured: "hardshrink_backward", "hardshrink_backward.grad_input"] =
            |grad, x; s| if x.abs() <= s[0] { T::ZERO } else { grad };
        softshrink: unary(float) [structured: "softshrink", "softshrink.out"] = |x; s| x.softshrink(s[0]);
        softshrink_backward: binary(float) [structured: "softshrink_backward", "softshrink_backward.grad_input"] =
            |grad, x; s| if x.abs() <= s[0] { T::ZERO } else { grad };
        /// The first half, gated by the second.
        glu: binary(float) = |a, b; _| a.mul(b.sigmoid());
        /// grad, first half, gate
        glu_gate_backward: ternary(float) =
            |grad, a, b; _| grad.mul(a).mul(b.sigmoid()).mul(T::ONE.sub(b.sigmoid()));
        /// self, weight
        prelu: binary(float) = |x, weight; _| if x > T::ZERO { x } else { weight.mul(x) };
        /// grad, self, weight
        prelu_input_backward: ternary(float) =
            |grad, x, weight; _| if x > T::ZERO { grad } else { weight.mul(grad) };
        prelu_weight_backward: binary(float) = |grad, x; _| if x > T::ZERO { T::ZERO } else { x.mul(grad) };
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
    kernels {
        /// Copies and casts: `[to, from]` of one shape.
        copy = crate::loops::copy::launch, outputs 1, in_place;
        /// `[out]` of any dtype. Integers and bool take `ints[0]`, floats `floats[0]`, complex types
        /// `floats[0..2]` (real, imaginary).
        fill = crate::loops::fill::fill, outputs 1;
        /// `[out]` of one dimension: `start + i * step`. Ints (for integers) or floats (for floats): start, step.
        arange = crate::loops::fill::arange, outputs 1;
        /// `[out]` of one dimension, from and up to a number; floats: both. Between them integers are cut.
        linspace = crate::loops::fill::linspace, outputs 1;
        /// Powers of a base, whose exponents are linspace's; floats: both exponents, the base.
        logspace = crate::loops::fill::logspace, outputs 1;
        /// Matrix product: `[out, a, b]`, 2-D.
        matmul = crate::matmul::matmul, outputs 1, flops product;
        /// Products in a batch: `[out, a, b]`, 3-D.
        batch_matmul = crate::matmul::batch_matmul, outputs 1, flops product;
        /// `beta * input + alpha * a @ b`: `[out, input, a, b]`, 2-D or 3-D; ints and floats: beta, alpha.
        addmm = crate::matmul::addmm, outputs 1, in_place, flops product;
        /// Convolution: `[out, input, weight, bias?]`. Ints of every convolution: spatial rank, then
        /// stride, padding, dilation for each spatial dimension, then groups.
        conv_forward = crate::conv::forward, outputs 1, flops convolve;
        /// `[grad_input, grad_output, weight, bias?]`; also a transposed convolution, with its bias.
        conv_input_grad = crate::conv::input_grad, outputs 1, flops convolve_input;
        /// `[grad_weight, input, grad_output]`.
        conv_weight_grad = crate::conv::weight_grad, outputs 1, flops convolve_weight;
        /// `[grad_bias, grad_output]`.
        conv_bias_grad = crate::conv::bias_grad, outputs 1, flops once;

        /// Scaled dot-product attention: `[out, logsumexp, query, key, value, mask?]`; ints `[0, 0, causal]`,
        /// floats `[scale]`.
        attention = crate::attention::attention, outputs 2, flops attend;
        /// `[out, logsumexp, state (two i64), query, key, value, mask?]`; ints `[seed, offset, causal]`,
        /// floats `[scale, p]`. Words: one a pair of query and key, the queries rounded up to four.
        attention_dropout = crate::attention::attention_dropout, outputs 3, random, flops attend;
        /// `[grad_query, grad_key, grad_value, grad_mask?, grad_out, query, key, value, mask?, out,
        /// logsumexp, seed?, offset?]`; ints `[0, 0, causal]`, floats `[scale, p]`.
        attention_backward = crate::attention::attention_backward, outputs 4, flops attend_backward;

        /// `[hy, cy, activations, input_gates, hidden_gates, cx, input_bias?, hidden_bias?]`.
        lstm_cell = crate::rnn::lstm_cell, outputs 3, flops once;
        /// `[grad_gates, grad_cx, grad_hy?, grad_cy?, cx, cy, activations]`.
        lstm_cell_backward = crate::rnn::lstm_cell_backward, outputs 2, flops once;
        /// `[hy, saved, input_gates, hidden_gates, hx, input_bias?, hidden_bias?]`.
        gru_cell = crate::rnn::gru_cell, outputs 2, flops once;
        /// `[grad_input_gates, grad_hidden_gates, grad_hx, grad_hy, saved]`.
        gru_cell_backward = crate::rnn::gru_cell_backward, outputs 3, flops once;

        /// Concatenates: `[out, inputs...]`, ints `[dim]`; inputs are cast to `out`'s dtype.
        cat = crate::cat::launch, outputs 1;

        /// `[out, self, index]`, ints `[dim]`; the index has `out`'s sizes.
        gather = crate::index::gather, outputs 1;
        /// `[out, self, index]`, ints `[dim]`; a 1-D index.
        index_select = crate::index::index_select, outputs 1;
        /// Indexing with tensors: `[out, self, indices...]`, absent for a full slice.
        index = crate::index::index, outputs 1;
        /// `[out, weight, indices]`.
        embedding = crate::index::embedding, outputs 1;
        /// `[grad_weight, grad, indices]`, ints `[padding_idx (negative: none), scale_grad_by_freq]`.
        embedding_backward = crate::index::embedding_backward, outputs 1, flops once;
        /// `[out, offset2bag, bag_size, max_indices?, weight, indices, offsets, per_sample_weights?]`, ints
        /// `[mode (0 sum, 1 mean, 2 max), include_last_offset, padding_idx]`.
        embedding_bag = crate::index::embedding_bag, outputs 4, flops once;
        /// `[grad_weight, grad, indices, offset2bag, bag_size, max_indices?, per_sample_weights?]`, ints
        /// `[mode, scale_grad_by_freq, padding_idx]`.
        embedding_bag_backward = crate::index::embedding_bag_backward, outputs 1, flops once;
        /// `[grad_weights, grad, weight, indices, offset2bag]`, ints `[padding_idx]`.
        embedding_bag_weights_backward = crate::index::embedding_bag_weights_backward, outputs 1, flops once;
        /// `[weight, indices]`, floats `[max_norm, p]`.
        embedding_renorm = crate::index::embedding_renorm, outputs 1, flops once;
        /// `[self, index, src]`, ints `[dim]`.
        scatter = crate::index::scatter, outputs 1;
        /// `[self, index]`, ints `[dim, value]`, floats `[value]`.
        scatter_value = crate::index::scatter_value, outputs 1;
        /// `[self, index, src]`, ints `[dim, reduction, include_self]`; reductions are 0 sum,
        /// 1 prod, 2 mean, 3 amax, 4 amin.
        scatter_reduce = crate::index::scatter_reduce, outputs 1, flops once;
        /// `[self, index, source]`, ints `[dim, alpha]`, floats `[alpha]`.
        index_add = crate::index::index_add, outputs 1, flops once;
        /// `[self, index, source]`, ints `[dim]`.
        index_copy = crate::index::index_copy, outputs 1;
        /// `[self, index]`, ints `[dim, value]`, floats `[value]`.
        index_fill = crate::index::index_fill, outputs 1;
        /// `[self, values, indices...]`, absent for a full slice; ints `[accumulate]`.
        index_put = crate::index::index_put, outputs 1;
        /// `[count (one i64), self]`.
        count_true = crate::index::count_true, outputs 1, flops once;
        /// `[out (i64, rows × rank), self]`, ints `[fill]`.
        nonzero = crate::index::nonzero, outputs 1;
        /// `[out (1-D), self, mask]`, self and mask of one shape.
        masked_select = crate::index::masked_select, outputs 1;
        /// `[self, mask, source (1-D)]`, self and mask of one shape.
        masked_scatter = crate::index::masked_scatter, outputs 1;
        /// `[self, index (1-D), source]`, ints `[dim, reduction, include_self]` as scatter_reduce's.
        index_reduce = crate::index::index_reduce, outputs 1;
        /// `[out, self, index]`, indices into all of self in C order.
        take = crate::index::take, outputs 1;
        /// `[self, index, source]`, ints `[accumulate]`.
        put = crate::index::put, outputs 1;
        /// `[out (1-D), self (1-D, integers), weights?]`.
        bincount = crate::index::bincount, outputs 1;
        /// `[out (1-D), ends (1-D, i64)]`, ends the running sums of the repeats.
        repeat_interleave = crate::index::repeat_interleave, outputs 1;
        /// `[out, self]`, ints: the dimensions to reverse.
        flip = crate::index::flip, outputs 1;
        /// `[out, self]`, ints `[dim, shift, dim, shift, ...]`.
        roll = crate::index::roll, outputs 1;
        /// `[out, self]`, ints `[diagonal]`.
        tril = crate::index::tril, outputs 1, in_place;
        /// `[out, self]`, ints `[diagonal]`.
        triu = crate::index::triu, outputs 1, in_place;

        /// `[values, indices (i64), self]`, ints `[dim, descending]`: stable.
        sort = crate::order::sort, outputs 2;
        /// `[values, indices (i64), self]`, ints `[dim, largest]`.
        topk = crate::order::topk, outputs 2;
        /// `[value, index (i64), self]`, outputs of size one in `dim`; ints `[dim, k]`.
        kth_value = crate::order::kth_value, outputs 2;
        /// `[value, index (i64), self]` as kth_value; ints `[dim, ignore_nan]`.
        median = crate::order::median, outputs 2;
        /// `[value, index (i64), self]` as kth_value; ints `[dim]`.
        mode = crate::order::mode, outputs 2;
        /// `[count, first, inverse?, counts?, self]`, all but self i64; ints `[dim (-1: by elements),
        /// consecutive]`.
        unique = crate::order::unique, outputs 4;
        /// `[out (i64 or i32), boundaries, values, sorter?]`, ints `[right]`.
        searchsorted = crate::order::searchsorted, outputs 1;
        /// `[out (bool), elements, tests]`, ints `[invert]`.
        isin = crate::order::isin, outputs 1;
        /// `[out, points (rows × coordinates), weights?, edges...]`, ints `[find]`.
        histogram = crate::order::histogram, outputs 1;

        // Each takes ints `[seed, offset]` first and consumes ceil(numel * words / 4) counters.
        /// `[out]`, floats `[from, to]`. Words: 1, or 2 for f64.
        uniform = crate::random::uniform, outputs 1, random;
        /// `[out]`, floats `[mean, deviation]`. Words: 1, or 2 for f64.
        normal = crate::random::normal, outputs 1, random;
        /// `[out]`, floats `[mean, deviation]` of the logarithm. Words: 1, or 2 for f64.
        log_normal = crate::random::log_normal, outputs 1, random;
        /// `[out]`, floats `[rate]`. Words: 1, or 2 for f64.
        exponential = crate::random::exponential, outputs 1, random;
        /// `[out]`, floats `[median, scale]`. Words: 1, or 2 for f64.
        cauchy = crate::random::cauchy, outputs 1, random;
        /// `[out]` of any dtype, floats `[p]`. Words: 2.
        geometric = crate::random::geometric, outputs 1, random;
        /// `[out]` of any dtype, floats `[p]`. Words: 1.
        bernoulli = crate::random::bernoulli, outputs 1, random;
        /// `[out, p]` of one shape. Words: 1.
        bernoulli_tensor = crate::random::bernoulli_tensor, outputs 1, random, in_place;
        /// `[out]` of any dtype, ints `[seed, offset, from, range]` (zero: all 2^64). Words: 1, or 2
        /// where range is zero or above 2^32.
        random = crate::random::random, outputs 1, random;
        /// `[out (1-D)]`: a permutation. Words: 2.
        randperm = crate::random::randperm, outputs 1, random;
        /// `[out (i64, rows × samples), weights (rows × categories)]`, ints `[seed, offset,
        /// replacement]`. Words: 2 a sample with replacement, 2 a category without.
        multinomial = crate::random::multinomial, outputs 1, random;
        /// `[out, rate]`, floats of one shape. Words: 4.
        poisson = crate::random::poisson, outputs 1, random;
        /// `[out, count, p]`, floats of one shape. Words: 4.
        binomial = crate::random::binomial, outputs 1, random;
        /// `[out, shape]`, floats of one shape. Words: 4.
        standard_gamma = crate::random::standard_gamma, outputs 1, random;
        /// `[out, mask (bool), input]`, floats `[p]`. Words: 1.
        dropout = crate::random::dropout, outputs 2, random, flops once;
        /// `[out, mask (bool), state (i32), input]`, floats `[p]`: draws from the state of PyTorch's
        /// CPU generator, in the order of the mask's memory, and writes the state back.
        mersenne_dropout = crate::random::mersenne_dropout, outputs 3;
        /// `[grad_in, grad, mask (bool)]`, floats `[scale]`.
        dropout_backward = crate::random::dropout_backward, outputs 1, flops once;

        /// `[out, indices (i64), self]`, ints `[kernel, stride, padding, dilation]`, (height, width)
        /// each.
        max_pool2d = crate::pool::max, outputs 2, flops once;
        /// `[grad_in, grad_out, indices]`.
        max_pool2d_backward = crate::pool::max_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[kernel, stride, padding ((height, width) each), count_include_pad,
        /// divisor_override (0: none)]`.
        avg_pool2d = crate::pool::average, outputs 1, flops once;
        /// `[grad_in, grad_out]`, ints as avg_pool2d's.
        avg_pool2d_backward = crate::pool::average_backward, outputs 1, flops once;
        /// `[out, self]`.
        adaptive_avg_pool2d = crate::pool::adaptive_average, outputs 1, flops once;
        /// `[grad_in, grad_out]`.
        adaptive_avg_pool2d_backward = crate::pool::adaptive_average_backward, outputs 1, flops once;

        /// `[out, indices (i64), self]`, ints `[kernel, stride, padding, dilation]`, (depth, height,
        /// width) each.
        max_pool3d = crate::pool::max_pool3d, outputs 2, flops once;
        /// `[out, indices (i64), self]`, ints `[spatial dimensions]`.
        adaptive_max_pool = crate::pool::adaptive_max, outputs 2, flops once;
        /// `[out, indices (i64), self, samples]`, ints: the kernel.
        fractional_max_pool = crate::pool::fractional_max, outputs 2, flops once;
        /// `[out, self, indices (i64)]`, ints `[spatial dimensions, add]`: zeros, and each value at its
        /// index in its plane.
        unpool = crate::pool::unpool, outputs 1;
        /// `[out, self]`, ints `[kernel, stride, padding (each dimension's), count_include_pad,
        /// divisor_override (0: none)]`.
        average_windows = crate::resample::average_windows, outputs 1, flops once;
        /// `[grad_in, grad_out]`, ints as average_windows'.
        average_windows_backward = crate::resample::average_windows_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[spatial dimensions]`.
        adaptive_average = crate::resample::adaptive_average, outputs 1, flops once;
        /// `[grad_in, grad_out]`, ints `[spatial dimensions]`.
        adaptive_average_backward = crate::resample::adaptive_average_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[mode, align_corners]`, floats: each spatial dimension's scale, or 0.
        upsample = crate::resample::upsample, outputs 1, flops once;
        /// `[grad_in, grad_out]`, scalars as upsample's.
        upsample_backward = crate::resample::upsample_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[reflect (else replicate), elements before the first of each dimension]`.
        pad = crate::resample::pad, outputs 1;
        /// `[grad_in, grad_out]`, ints as pad's.
        pad_backward = crate::resample::pad_backward, outputs 1, flops once;

        /// `[out, input, grid]`, ints `[interpolation (0 linear, 1 nearest, 2 cubic), padding (0 zeros, 1
        /// border, 2 reflection), align_corners]`.
        grid_sample = crate::grid_sample::grid_sample, outputs 1, flops once;
        /// `[grad_input?, grad_grid?, grad_out, input, grid]`, ints as grid_sample's.
        grid_sample_backward = crate::grid_sample::grid_sample_backward, outputs 2, flops once;
        /// `[columns, images]`, ints `[kernel, dilation, padding, stride]`, (height, width) each.
        im2col = crate::unfold::im2col, outputs 1;
        /// `[images, columns]`, ints as im2col's.
        col2im = crate::unfold::col2im, outputs 1, flops once;

        /// Another row over lists: results, then each input's list; ints `[results, the row's id,
        /// compute dtype, whether each tensor has a scalar of its own]` and scalars, floats: scalars.
        foreach = crate::loops::foreach::launch, outputs first_int, in_place;
        // One step over lists. `written` counts the views that are written: every list but the
        // gradients' is, and theirs comes last among the written ones where they are unscaled.
        /// Parameters, [momentum buffers,] gradients; ints `[written, nesterov, maximize,
        /// is_first_step]`, floats `[lr, momentum, dampening, weight_decay, grad_scale (0: none)]`.
        fused_sgd = crate::optim::sgd, outputs first_int, flops update;
        /// Parameters, moments, second moments, [their maxima,] gradients; ints `[written, amsgrad,
        /// maximize, decoupled (AdamW)]`, floats `[lr, beta1, beta2, weight_decay, eps, grad_scale
        /// (0: none)]`, then each tensor's step.
        fused_adam = crate::optim::adam, outputs first_int, flops update;
        /// Parameters, sums of squares, gradients; ints `[written, maximize]`, floats `[lr,
        /// lr_decay, weight_decay, eps, grad_scale (0: none)]`, then each tensor's step.
        fused_adagrad = crate::optim::adagrad, outputs first_int, flops update;
        /// Gradients, found_inf, inv_scale; ints `[written]`.
        amp_unscale = crate::optim::unscale, outputs first_int, flops once;
        /// Scale, growth_tracker, found_inf; ints `[growth_interval]`, floats `[growth_factor,
        /// backoff_factor]`.
        amp_update_scale = crate::optim::update_scale, outputs 2;

        // Reductions: the input's rank is kept, reduced dimensions have size one.
        /// `[output, input]`
        sum = crate::reduce::sum, outputs 1, flops once;
        /// `[output, input]`, floats
        nansum = crate::reduce::nansum, outputs 1;
        /// `[output, input]`
        mean = crate::reduce::mean, outputs 1, flops once;
        /// `[output, input]`
        prod = crate::reduce::prod, outputs 1, flops once;
        /// `[output, input]`
        amax = crate::reduce::amax, outputs 1, flops once;
        /// `[output, input]`
        amin = crate::reduce::amin, outputs 1, flops once;
        /// `[output, input]`
        any = crate::reduce::any, outputs 1, flops once;
        /// `[output, input]`
        all = crate::reduce::all, outputs 1, flops once;
        /// `[output, input]`
        count_nonzero = crate::reduce::count_nonzero, outputs 1, flops once;
        /// `[values, positions, input]`, either output may be absent
        max_position = crate::reduce::max_position, outputs 2, flops once;
        /// `[values, positions, input]`, either output may be absent
        min_position = crate::reduce::min_position, outputs 2, flops once;
        /// `[variance, mean, input]`, either output may be absent; ints `[root]`, floats `[correction]`
        variance = crate::reduce::variance, outputs 2, flops once;
        /// `[output, input]`; floats `[p]`
        norm = crate::reduce::norm, outputs 1, flops once;
        /// `[out, data, lengths (i64)]`: `[outer, segments, inner]`, `[outer, along, inner]`, `[outer,
        /// segments]`; ints `[reduction (0 max, 1 mean, 2 min, 3 sum, 4 product), has_initial]`, floats
        /// `[initial]`.
        segment_reduce = crate::reduce::segment_reduce, outputs 1;
        /// `[grad_data, grad, out, data, lengths (i64)]`, scalars as segment_reduce's.
        segment_reduce_backward = crate::reduce::segment_reduce_backward, outputs 1;
        /// `[output, input]`; ints `[dim]`
        cumsum = crate::reduce::cumsum, outputs 1, in_place, flops once;
        /// `[output, input]`; ints `[dim]`
        cumprod = crate::reduce::cumprod, outputs 1, in_place, flops once;
        /// `[output, input]`; ints `[dim]`
        logcumsumexp = crate::reduce::logcumsumexp, outputs 1;
        /// `[values, positions, input]`; ints `[dim]`
        cummax = crate::reduce::cummax, outputs 2;
        /// `[values, positions, input]`; ints `[dim]`
        cummin = crate::reduce::cummin, outputs 2;

        /// `[output, input]`; ints `[dim, log]`
        softmax = crate::softmax::softmax, outputs 1, flops normalise;
        /// `[grad_input, grad_output, output]`; ints `[dim, log]`
        softmax_backward = crate::softmax::softmax_backward, outputs 1, flops normalise;
        /// `[output, save_mean?, save_invstd?, running_mean?, running_var?, input, weight?, bias?]`;
        /// ints `[training]`, floats `[momentum, eps]`
        batch_norm = crate::norm::batch_norm, outputs 5, flops normalise;
        /// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, weight?, mean, spread]`;
        /// ints `[training]`, floats `[eps]`; spread is the saved inverse deviation, or the running variance
        batch_norm_backward = crate::norm::batch_norm_backward, outputs 3, flops normalise;
        /// `[output, mean, rstd, input, weight?, bias?]`; ints `[groups]`, floats `[eps]`
        group_norm = crate::norm::group_norm, outputs 3, flops normalise;
        /// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, mean, rstd, weight?]`; ints `[groups]`
        group_norm_backward = crate::norm::group_norm_backward, outputs 3, flops normalise;
        /// `[output, mean, rstd, input, weight?, bias?]`, input `[M, N]`; floats `[eps]`
        layer_norm = crate::norm::layer_norm, outputs 3, flops normalise;
        /// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, mean, rstd, weight?]`
        layer_norm_backward = crate::norm::layer_norm_backward, outputs 3, flops normalise;
        /// `[output, total_weight, input, target, weight?]`; ints `[reduction, ignored class]`
        nll_loss = crate::loss::nll_loss, outputs 2, flops once;
        /// `[grad_input, grad_output, target, weight?, total_weight]`; ints `[reduction, ignored class]`
        nll_loss_backward = crate::loss::nll_loss_backward, outputs 1, flops once;
        /// `[out, input, target, weight?]`; ints `[p, reduction]`, floats `[margin]`
        multi_margin = crate::loss::multi_margin, outputs 1, flops once;
        /// `[grad_input, grad, input, target, weight?]`; scalars as multi_margin's
        multi_margin_backward = crate::loss::multi_margin_backward, outputs 1, flops once;
        /// `[out, is_target, input, target]`; ints `[reduction]`
        multilabel_margin = crate::loss::multilabel_margin, outputs 2, flops once;
        /// `[grad_input, grad, input, target]`; ints `[reduction]`
        multilabel_margin_backward = crate::loss::multilabel_margin_backward, outputs 1, flops once;
        /// `[loss, log_alpha, log_probs, targets]`; ints `[blank, zero_infinity, steps of each sample,
        /// labels of each sample]`
        ctc_loss = crate::loss::ctc_loss, outputs 2, flops once;
        /// `[grad_log_probs, grad, log_probs, targets, loss, log_alpha]`; ints as ctc_loss'
        ctc_loss_backward = crate::loss::ctc_loss_backward, outputs 1, flops once;
        /// `[out, x1, x2]`, `[batch, rows, width]` each; floats `[p]`
        cdist = crate::distance::cdist, outputs 1, flops distance;
        /// `[grad_x1, grad, x1, x2, distances]`; floats `[p]`
        cdist_backward = crate::distance::cdist_backward, outputs 1, flops distance_backward;
        /// `[out, self]`, of `[1, rows, width]`; floats `[p]`
        pdist = crate::distance::pdist, outputs 1, flops distance;
        /// `[grad_self, grad, self, distances]`; floats `[p]`
        pdist_backward = crate::distance::pdist_backward, outputs 1, flops distance_backward;
    }
}
