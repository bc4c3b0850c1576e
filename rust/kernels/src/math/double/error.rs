//! The error function.

use std::f64::consts::FRAC_2_SQRT_PI;

use super::exponential::{exp, exp_short};
use super::logarithm::ln;
use super::{Digits, polynomial};

/// `erf(r) / r - 1`, over `r^2`, up to one half; for f64 and for f32.
const NEAR: [f64; 9] = [
    0.128_379_167_095_512_56,
    -0.376_126_389_031_834_76,
    0.112_837_916_709_253_53,
    -0.026_866_170_632_887_928,
    0.005_223_977_373_021_47,
    -0.000_854_829_775_367_496_6,
    0.000_120_533_351_243_537_41,
    -1.484_584_925_970_786_9e-05,
    1.472_586_548_055_674_4e-06,
];
const NEAR_SHORT: [f64; 5] = [
    0.128_379_165_601_791_47,
    -0.376_126_090_074_698_05,
    0.112_828_314_284_658_62,
    -0.026_757_732_735_015_517,
    0.004_719_082_567_218_814,
];
/// `exp(x^2) erfc(x) / t`, over `t - middle` for `t = 2 / (2 + x)`, from one half on; for f64 and for f32.
const FAR: [f64; 23] = [
    0.467_828_472_741_245_8,
    0.615_472_311_904_790_7,
    0.525_908_901_016_236_1,
    0.186_156_475_239_729_03,
    -0.132_062_315_463_229_5,
    -0.136_608_327_881_370_3,
    0.064_314_033_253_052_24,
    0.094_302_864_586_846_16,
    -0.064_012_212_973_354_81,
    -0.062_295_584_910_208_12,
    0.081_243_615_903_911_98,
    0.021_729_367_531_824_632,
    -0.094_803_733_389_076_48,
    0.037_740_856_610_326_445,
    0.078_675_334_026_953_51,
    -0.106_820_445_527_420_41,
    -0.004_302_595_817_527_267_4,
    0.144_952_125_085_518_36,
    -0.125_862_466_991_631_8,
    -0.105_223_783_275_760_68,
    0.227_293_590_031_565_32,
    0.021_145_294_503_059_093,
    -0.166_826_098_659_393_93,
];
const FAR_MIDDLE: f64 = 0.434;
const FAR_SHORT: [f64; 10] = [
    0.498_602_691_578_438_7,
    0.667_184_339_780_235_6,
    0.550_743_659_733_586_7,
    0.157_811_966_697_797,
    -0.162_232_789_047_751_32,
    -0.113_964_814_041_151,
    0.089_876_316_679_106_78,
    0.065_920_994_046_459_7,
    -0.064_556_511_060_708_45,
    -0.026_355_981_608_465_893,
];
const FAR_SHORT_MIDDLE: f64 = 0.482;
/// `erfinv(x) / x`, over `w - middle` for `w = -ln(1 - x^2)` up to their double, and over `sqrt(w) - middle` from there.
const INVERSE_NEAR: [f64; 10] = [
    1.653_654_689_221_932_6,
    0.240_158_181_575_460_34,
    -0.006_034_321_004_949_178,
    -0.000_740_697_886_877_645_8,
    0.000_187_276_500_584_391_43,
    -1.388_760_389_215_265_5e-5,
    -1.527_131_186_533_648_8e-6,
    4.257_694_058_391_407_6e-7,
    -8.527_947_061_368_94e-9,
    -4.613_402_191_017_829e-9,
];
const INVERSE_NEAR_MIDDLE: f64 = 3.125;
const INVERSE_FAR: [f64; 10] = [
    4.142_724_658_156_752_5,
    1.010_045_097_607_889_4,
    0.000_615_116_357_680_521_8,
    -0.000_566_970_822_235_211_2,
    0.000_221_550_940_800_550_25,
    -5.912_903_850_978_458_4e-5,
    -4.418_017_628_095_136e-6,
    -6.177_157_068_992_943e-6,
    1.373_732_565_733_129e-5,
    -4.122_463_667_661_159_6e-6,
];
const INVERSE_FAR_MIDDLE: f64 = 4.3;
/// Up to it the near polynomials are right.
const SPLIT: f64 = 0.5;
/// Past it `erfc` is zero; past the root of the second, in f32.
const BOUND: f64 = 27.3;
const SHORT_BOUND: f64 = 120.0;

/// The polynomials, and what they are right to.
#[derive(Clone, Copy)]
struct Plan<const NEARS: usize, const FARS: usize> {
    near: [f64; NEARS],
    far: [f64; FARS],
    middle: f64,
    digits: Digits,
}
const ALL: Plan<9, 23> = Plan { near: NEAR, far: FAR, middle: FAR_MIDDLE, digits: Digits::All };
const SHORT: Plan<5, 10> = Plan { near: NEAR_SHORT, far: FAR_SHORT, middle: FAR_SHORT_MIDDLE, digits: Digits::Short };

/// `erfc(x)` of a number that is not near zero.
#[inline(always)]
fn complement<const NEARS: usize, const FARS: usize>(x: f64, plan: Plan<NEARS, FARS>) -> f64 {
    let Plan { far, middle, digits, .. } = plan;
    let x = if x > BOUND { BOUND } else { x };
    let square = x * x;
    let divisor = 2.0 + x;
    let t = 2.0 / divisor;
    if let Digits::Short = digits {
        // Smaller ones are none, and smaller still would be no power.
        let square = if square > SHORT_BOUND { SHORT_BOUND } else { square };
        return exp_short(-square) * (t * polynomial(t - middle, far));
    }
    // What the divisor and the quotient lose.
    let rest = (-t).mul_add(divisor, 2.0) - t * (2.0 - divisor + x);
    let t_rest = 0.5 * t * rest;
    let value = polynomial(t - middle + t_rest, far);
    let scaled = t.mul_add(value, t_rest * value);
    // What the square loses is as much of the result.
    let lost = x.mul_add(x, -square);
    exp(-square) * (-lost).mul_add(scaled, scaled)
}

#[inline(always)]
fn near<const COUNT: usize>(x: f64, tail: [f64; COUNT]) -> f64 {
    x.mul_add(polynomial(x * x, tail), x)
}

#[inline(always)]
pub fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    let far = 1.0 - complement(magnitude, ALL);
    (if magnitude < SPLIT { near(magnitude, NEAR) } else { far }).copysign(x)
}

#[inline(always)]
fn erfc_by<const NEARS: usize, const FARS: usize>(x: f64, plan: Plan<NEARS, FARS>) -> f64 {
    let magnitude = x.abs();
    let complement = complement(magnitude, plan);
    let complement = if x < 0.0 { 2.0 - complement } else { complement };
    if magnitude < SPLIT { 1.0 - near(x, plan.near) } else { complement }
}

#[inline(always)]
pub fn erfc(x: f64) -> f64 {
    erfc_by(x, ALL)
}

/// With as many digits as an f32 has.
#[inline(always)]
pub fn erfc_short(x: f64) -> f64 {
    erfc_by(x, SHORT)
}

/// By polynomials that are right to six digits, and a step of Halley's, which triples them.
#[inline(always)]
fn erfinv_by<const NEARS: usize, const FARS: usize>(x: f64, plan: Plan<NEARS, FARS>) -> f64 {
    let magnitude = x.abs();
    // What is missing from one, which `erf` has no digits for.
    let missing = 1.0 - magnitude;
    let depth = -ln(missing * (1.0 + magnitude));
    let near_guess = polynomial(depth - INVERSE_NEAR_MIDDLE, INVERSE_NEAR);
    let far_guess = polynomial(depth.sqrt() - INVERSE_FAR_MIDDLE, INVERSE_FAR);
    let guess = magnitude * if depth < 2.0 * INVERSE_NEAR_MIDDLE { near_guess } else { far_guess };
    let distance =
        if magnitude < SPLIT { near(guess, plan.near) - magnitude } else { missing - complement(guess, plan) };
    let step = distance / (FRAC_2_SQRT_PI * exp(-guess * guess));
    let value = guess - step / guess.mul_add(step, 1.0);
    let value = if magnitude == 1.0 { f64::INFINITY } else { value };
    let value = if magnitude <= 1.0 { value } else { f64::NAN };
    value.copysign(x)
}

#[inline(always)]
pub fn erfinv(x: f64) -> f64 {
    erfinv_by(x, ALL)
}

/// With as many digits as an f32 has.
#[inline(always)]
pub fn erfinv_short(x: f64) -> f64 {
    erfinv_by(x, SHORT)
}
