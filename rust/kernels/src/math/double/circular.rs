//! Sines and their inverses.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4};

use super::{Digits, polynomial, round};

/// Up to here `sin`, `cos` and `tan` are right; above, whole turns need more of pi.
pub const FAR: f64 = 1_073_741_824.0;
/// What [`FRAC_PI_2`] lacks, and what that lacks.
const HALF_PI_REST: [f64; 2] = [6.123_233_995_736_766e-17, -1.497_384_904_859_169_8e-33];
/// What [`FRAC_PI_4`] lacks.
const QUARTER_PI_REST: f64 = 3.061_616_997_868_383e-17;
/// `(sin(r) / r - 1) / r^2`, over `r^2`
const SINE: [f64; 6] = [
    -0.166_666_666_666_666_66,
    0.008_333_333_333_330_827,
    -0.000_198_412_698_365_757_1,
    2.755_731_600_817_155e-6,
    -2.505_111_227_257_323_4e-8,
    1.591_672_619_388_933_6e-10,
];
/// `(cos(r) - 1 + r^2 / 2) / r^4`, over `r^2`
const COSINE: [f64; 6] = [
    0.041_666_666_666_666_664,
    -0.001_388_888_888_888_732_2,
    2.480_158_729_865_129_2e-5,
    -2.755_731_721_268_659e-7,
    2.087_613_402_409_014_5e-9,
    -1.138_175_465_366_293_7e-11,
];
/// `(atan(r) / r - 1) / r^2`, over `r^2`, up to the tangent of an eighth of pi; for f64 and for f32.
const ATAN: [f64; 12] = [
    -0.333_333_333_333_333_3,
    0.199_999_999_999_997_98,
    -0.142_857_142_856_585_74,
    0.111_111_111_050_334_67,
    -0.090_909_087_474_385_06,
    0.076_922_961_999_679_73,
    -0.066_664_217_453_518_14,
    0.058_788_929_347_181_634,
    -0.052_301_889_934_494_805,
    0.045_503_846_552_787_88,
    -0.034_539_518_756_678_086,
    0.016_251_396_585_923_04,
];
pub const ATAN_SHORT: [f64; 6] = [
    -0.333_333_332_784_973_85,
    0.199_999_769_973_223_72,
    -0.142_841_371_134_340_95,
    0.110_711_043_881_528_1,
    -0.086_227_349_468_765_59,
    0.050_431_357_064_092_526,
];
/// `(asin(r) / r - 1) / r^2`, over `r^2`, up to one half; for f64 and for f32.
const ASIN: [f64; 13] = [
    0.166_666_666_666_666_69,
    0.074_999_999_999_984_25,
    0.044_642_857_146_373_38,
    0.030_381_944_137_085_216,
    0.022_372_173_002_005_596,
    0.017_352_391_265_909_227,
    0.013_971_235_301_124_539,
    0.011_478_952_690_257_387,
    0.010_324_318_288_744_113,
    0.005_450_878_187_720_55,
    0.017_419_357_964_884_856,
    -0.014_881_409_392_818_066,
    0.028_778_442_612_593_04,
];
pub const ASIN_SHORT: [f64; 6] = [
    0.166_666_663_365_404_9,
    0.075_000_947_611_729_01,
    0.044_599_319_162_871_14,
    0.031_101_727_829_067_168,
    0.017_143_716_819_253_568,
    0.033_700_726_321_365_13,
];
/// Numerators and denominators above it are made smaller, so that their sum is finite.
const LARGE: f64 = 1e300;

/// The sine and cosine of what whole quarter turns leave of `x`, and the quarter turns' low bits.
#[inline(always)]
fn quarter_turns(x: f64) -> (f64, f64, u64) {
    let (whole, bits) = round(x * FRAC_2_PI);
    // Exact: a multiple of the smaller operand's last place, and below one.
    let near = whole.mul_add(-FRAC_PI_2, x);
    let rest = whole.mul_add(-HALF_PI_REST[0], near);
    // What that loses. The difference of the two is exact where neither is twice the other; elsewhere the rest was
    // rounded finely enough.
    let shift = whole * HALF_PI_REST[0];
    let moved = whole.mul_add(-HALF_PI_REST[0], near - rest);
    let moved = if rest.abs() > shift.abs() { moved } else { 0.0 };
    let lost = whole.mul_add(-HALF_PI_REST[1], moved);
    let square = rest * rest;
    let sine = rest + (rest * square).mul_add(polynomial(square, SINE), lost);
    let half_square = 0.5 * square;
    let less = 1.0 - half_square;
    let small = (square * square).mul_add(polynomial(square, COSINE), rest * -lost);
    let cosine = less + (1.0 - less - half_square + small);
    (sine, cosine, bits)
}

/// With the sign that the second of a word's bits says.
#[inline(always)]
fn signed(value: f64, turns: u64) -> f64 {
    f64::from_bits(value.to_bits() ^ ((turns & 2) << 62))
}

#[inline(always)]
pub fn sin(x: f64) -> f64 {
    let (sine, cosine, turns) = quarter_turns(x);
    let value = signed(if turns & 1 == 0 { sine } else { cosine }, turns);
    // Zero has its sign.
    if x == 0.0 { x } else { value }
}

#[inline(always)]
pub fn cos(x: f64) -> f64 {
    let (sine, cosine, turns) = quarter_turns(x);
    signed(if turns & 1 == 0 { cosine } else { sine }, turns.wrapping_add(1))
}

#[inline(always)]
pub fn tan(x: f64) -> f64 {
    let (sine, cosine, turns) = quarter_turns(x);
    let is_odd = turns & 1 == 1;
    let (above, below) = if is_odd { (-cosine, sine) } else { (sine, cosine) };
    if x == 0.0 { x } else { above / below }
}

/// The angle of the point `(x, y)`, its sign aside, with the polynomial of [`ATAN`].
#[inline(always)]
pub fn angle_by<const COUNT: usize>(y: f64, x: f64, tail: [f64; COUNT]) -> f64 {
    /// `sqrt(2) - 1`
    const EIGHTH: f64 = 0.414_213_562_373_095_03;
    let (height, width) = (y.abs(), x.abs());
    let is_steep = height > width;
    let (less, more) = if is_steep { (width, height) } else { (height, width) };
    let down = if more > LARGE { 1e-10 } else { 1.0 };
    let is_infinite = less == f64::INFINITY;
    let (less, more) = (less * down, more * down);
    // From the nearest of zero and a quarter of pi.
    let is_far = is_infinite || less > EIGHTH * more;
    let (above, below) = if is_far { (less - more, less + more) } else { (less, more) };
    let ratio = above / below;
    let ratio = if is_infinite || more == 0.0 { 0.0 } else { ratio };
    let square = ratio * ratio;
    let small = ratio * square * polynomial(square, tail);
    // In quarters of pi, from which it goes up or down.
    let quarters = if is_far { 1.0 } else { 0.0 };
    let (quarters, up) = if is_steep { (2.0 - quarters, -1.0) } else { (quarters, 1.0) };
    let (quarters, up) = if x.is_sign_negative() { (4.0 - quarters, -up) } else { (quarters, up) };
    let base = quarters * FRAC_PI_4;
    let base_rest = quarters.mul_add(FRAC_PI_4, -base) + quarters * QUARTER_PI_REST;
    let moved = up * ratio;
    let sum = base + moved;
    let lost = if is_far || quarters > 0.0 { base - sum + moved } else { 0.0 };
    let angle = sum + (lost + up.mul_add(small, base_rest));
    if x.is_nan() || y.is_nan() { f64::NAN } else { angle }
}

#[inline(always)]
pub fn atan2(y: f64, x: f64) -> f64 {
    angle_by(y, x, ATAN).copysign(y)
}

#[inline(always)]
pub fn atan(x: f64) -> f64 {
    angle_by(x, 1.0, ATAN).copysign(x)
}

/// Up to one half the number, above the root of half of what it lacks to one, which [`asin`] then takes: it, what it
/// loses, and the polynomial's part.
#[inline(always)]
fn halved<const COUNT: usize>(magnitude: f64, tail: [f64; COUNT], digits: Digits) -> (f64, f64) {
    let is_large = magnitude > 0.5;
    let square = if is_large { 0.5 * (1.0 - magnitude) } else { magnitude * magnitude };
    let root = square.sqrt();
    // What the root loses.
    let correction = match digits {
        Digits::All => (-root).mul_add(root, square) * f64::from(0.5 / root as f32),
        Digits::Short => 0.0,
    };
    let correction = if is_large && root > 0.0 { correction } else { 0.0 };
    let value = if is_large { root } else { magnitude };
    (value, (value * square).mul_add(polynomial(square, tail), correction))
}

#[inline(always)]
pub fn asin_by<const COUNT: usize>(x: f64, tail: [f64; COUNT], digits: Digits) -> f64 {
    let magnitude = x.abs();
    let (value, small) = halved(magnitude, tail, digits);
    let turned = FRAC_PI_2 - 2.0 * value;
    let lost = FRAC_PI_2 - turned - 2.0 * value + HALF_PI_REST[0];
    let angle = if magnitude > 0.5 { turned + (lost - 2.0 * small) } else { value + small };
    let angle = if magnitude <= 1.0 { angle } else { f64::NAN };
    angle.copysign(x)
}

#[inline(always)]
pub fn acos_by<const COUNT: usize>(x: f64, tail: [f64; COUNT], digits: Digits) -> f64 {
    let magnitude = x.abs();
    let (value, small) = halved(magnitude, tail, digits);
    let is_large = magnitude > 0.5;
    // From pi for large negative numbers, from half of it for small ones, and up from zero for large ones.
    let base = if x < -0.5 { 2.0 * FRAC_PI_2 } else { FRAC_PI_2 };
    let base_rest = if x < -0.5 { 2.0 * HALF_PI_REST[0] } else { HALF_PI_REST[0] };
    let (base, base_rest) = if x > 0.5 { (0.0, 0.0) } else { (base, base_rest) };
    let factor = if is_large { 2.0 } else { 1.0 };
    let factor = if x > 0.5 || (x < 0.0 && !is_large) { factor } else { -factor };
    let moved = factor * value;
    let sum = base + moved;
    let angle = sum + (base - sum + moved + factor.mul_add(small, base_rest));
    if magnitude <= 1.0 { angle } else { f64::NAN }
}

#[inline(always)]
pub fn asin(x: f64) -> f64 {
    asin_by(x, ASIN, Digits::All)
}

#[inline(always)]
pub fn acos(x: f64) -> f64 {
    acos_by(x, ASIN, Digits::All)
}
