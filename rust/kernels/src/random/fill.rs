//! Distributions that fill a tensor.

use super::{Stream, philox};
use crate::convert::{Stored, StoredFloat};
use crate::dtype::DType;
use crate::element::{Element, Float};
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::index::contiguous_strides;
use crate::isa::{self, Level};
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy::{self, Cast};
use crate::match_float;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::{Attrs, View};

/// Elements of a task: a multiple of every group that shares a counter.
const TASK: usize = 16 * 1024;
/// Elements that are drawn at a time.
const BLOCK: usize = 512;

/// A distribution over `T`: one element from its words. Normal values come in pairs, so an element
/// sees the words of its whole pair: `WORDS` for itself and as many for its neighbour.
pub(super) trait Draw<T>: Copy + Sync {
    const WORDS: usize;
    /// A pair of neighbours from their words.
    fn draw(&self, words: &[u32]) -> [T; 2];
}

/// A distribution whose elements are drawn one by one.
#[derive(Clone, Copy)]
struct Each<F, const WORDS: usize>(F);

impl<T, F: Fn(&[u32]) -> T + Copy + Sync, const WORDS: usize> Draw<T> for Each<F, WORDS> {
    const WORDS: usize = WORDS;
    #[inline(always)]
    fn draw(&self, words: &[u32]) -> [T; 2] {
        [(self.0)(&words[..WORDS]), (self.0)(&words[WORDS..2 * WORDS])]
    }
}

/// A distribution whose elements are drawn two by two.
#[derive(Clone, Copy)]
struct Pairs<F, const WORDS: usize>(F);

impl<T, F: Fn(&[u32]) -> [T; 2] + Copy + Sync, const WORDS: usize> Draw<T> for Pairs<F, WORDS> {
    const WORDS: usize = WORDS;
    #[inline(always)]
    fn draw(&self, words: &[u32]) -> [T; 2] {
        (self.0)(&words[..2 * WORDS])
    }
}

struct Transform<'a, T, D> {
    words: &'a [u32],
    values: &'a mut [T],
    draw: D,
}

impl<T: Copy, D: Draw<T>> Vectorised for Transform<'_, T, D> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        for (pair, words) in self.values.chunks_exact_mut(2).zip(self.words.chunks_exact(2 * D::WORDS)) {
            pair.copy_from_slice(&self.draw.draw(words));
        }
    }
}

/// Draws the elements from `start` (even) on into `values`, of even length up to a block.
fn draw_block<T: Copy, D: Draw<T>>(level: Level, stream: Stream, start: usize, values: &mut [T], draw: D) {
    let mut words = [0; 2 * BLOCK];
    let words = &mut words[..values.len() * D::WORDS];
    philox::fill(level, stream, (start * D::WORDS) as u64, words);
    // SAFETY: the task holds slices, no pointers.
    unsafe { vectorise_at(level, Transform { words, values, draw }) }
}

/// Calls `body(start, values)` for every block of `numel` elements.
pub(super) fn for_each_block<T: Element, D: Draw<T>>(
    numel: usize,
    stream: Stream,
    draw: D,
    body: impl Fn(usize, &[T]) + Sync,
) {
    let level = isa::level();
    threads::parallel_chunks(numel, TASK, numel * 2, |range| {
        let mut values = [T::ZERO; BLOCK];
        for start in range.clone().step_by(BLOCK) {
            let count = BLOCK.min(range.end - start);
            // Whole counters are drawn: the block's tail is cut off, not the words.
            let drawn = count.next_multiple_of(4);
            draw_block(level, stream, start, &mut values[..drawn], draw);
            body(start, &values[..count]);
        }
    });
}

/// Fills `out` in C order, casting to its dtype.
fn fill<T: Element + Stored, D: Draw<T>>(out: &View<'_>, attrs: &Attrs<'_>, draw: D) -> Result<()> {
    let stream = Stream::of(attrs)?;
    let cast = Cast::new(<T as Stored>::DTYPE, out.dtype())?;
    if !out.is_contiguous() {
        return through_dense(out, |dense| fill(dense, attrs, draw));
    }
    let level = isa::level();
    let (to, size) = (Address(out.bytes()), out.dtype().size());
    for_each_block(out.numel(), stream, draw, |start, values: &[T]| {
        // SAFETY: the block is within the dense output; blocks are disjoint.
        unsafe { (cast.run)(level, values.len(), values.as_ptr().cast(), 1, to.at(start * size), 1) };
    });
    Ok(())
}

#[derive(Clone, Copy)]
pub(super) struct Address(pub *mut u8);
// SAFETY: an address; tasks write disjoint blocks.
unsafe impl Sync for Address {}
impl Address {
    pub(super) fn at(self, bytes: usize) -> *mut u8 {
        self.0.wrapping_add(bytes)
    }
}

/// Runs `body` on a dense tensor of `out`'s shape and copies it to `out`.
pub(super) fn through_dense(out: &View<'_>, body: impl FnOnce(&View<'_>) -> Result<()>) -> Result<()> {
    let mut scratch = filled((out.numel() * out.dtype().size()).div_ceil(size_of::<u64>()), 0u64);
    let strides = contiguous_strides(out.sizes());
    // SAFETY: the scratch holds `out`'s elements, aligned for each of them.
    let dense = unsafe { View::new(scratch.as_mut_ptr().cast(), out.dtype(), out.sizes(), &strides) };
    body(&dense)?;
    copy::launch(&[*out, dense], &Attrs::default())
}

/// A float with as many random bits as the stored type has, in [0, 1).
trait Unit: StoredFloat {
    const BITS: u32;
}
impl Unit for f32 {
    const BITS: u32 = 24;
}
impl Unit for f64 {
    const BITS: u32 = 53;
}
impl Unit for half::bf16 {
    const BITS: u32 = 8;
}
impl Unit for half::f16 {
    const BITS: u32 = 11;
}

/// What f32 and f64 draw differently: words an element, and how they become a uniform number.
pub(super) trait RealDraw: Float {
    const WORDS: usize;
    /// In [0, 1), with at most `bits` bits.
    fn unit(words: &[u32], bits: u32) -> Self;
    /// In (0, 1].
    fn positive_unit(words: &[u32]) -> Self;
    /// In [0, 1) turns, with all the type's bits.
    fn turn(words: &[u32]) -> Self;
}

impl RealDraw for f32 {
    const WORDS: usize = 1;
    #[inline(always)]
    fn unit(words: &[u32], bits: u32) -> Self {
        // Through i32: AVX2 has no conversion from u32.
        (words[0] >> (32 - bits)) as i32 as f32 / (1u32 << bits) as i32 as f32
    }
    #[inline(always)]
    fn positive_unit(words: &[u32]) -> Self {
        // All 32 bits count near zero, where the logarithm tells them apart.
        ((words[0] >> 1) as i32 as f32 + 0.5) * (1.0 / (1u32 << 31) as f32)
    }
    #[inline(always)]
    fn turn(words: &[u32]) -> Self {
        Self::unit(words, 24)
    }
}

impl RealDraw for f64 {
    const WORDS: usize = 2;
    #[inline(always)]
    fn unit(words: &[u32], bits: u32) -> Self {
        let word = u64::from(words[0]) | u64::from(words[1]) << 32;
        (word >> (64 - bits)) as i64 as f64 / (1u64 << bits) as i64 as f64
    }
    #[inline(always)]
    fn positive_unit(words: &[u32]) -> Self {
        Self::unit(words, 53) + 1.0 / (1u64 << 53) as f64
    }
    #[inline(always)]
    fn turn(words: &[u32]) -> Self {
        Self::unit(words, 53)
    }
}

/// Calls `$body` with `$real` bound to the type that a float of `$dtype` is drawn in and `$words`
/// to its words.
macro_rules! match_real {
    ($dtype:expr, $real:ident, $words:ident => $body:expr) => {
        match $dtype {
            DType::F64 => {
                type $real = f64;
                const $words: usize = 2;
                $body
            }
            DType::F32 | DType::BF16 | DType::F16 => {
                type $real = f32;
                const $words: usize = 1;
                $body
            }
            other => return Error::dtype(other),
        }
    };
}

fn expect_output<'a>(views: &[View<'a>]) -> Result<View<'a>> {
    match views {
        [out] => Ok(*out),
        _ => Err(Error::Runtime(format!("expected one operand, got {}", views.len()))),
    }
}

/// `[out]`, ints `[seed, offset]`, floats `[from, to]`: uniform in [from, to). Words: 1, or 2 for
/// f64.
pub fn uniform(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    let bits = match_float!(out.dtype(), S => <S as Unit>::BITS);
    match_real!(out.dtype(), T, WORDS => {
        let (from, to) = (attrs.float(0) as T, attrs.float(1) as T);
        let width = to - from;
        fill(&out, attrs, Each::<_, WORDS>(#[inline(always)] move |words: &[u32]| {
            let value = T::unit(words, bits) * width + from;
            // Rounding may reach the open end.
            if value >= to { from } else { value }
        }))
    })
}

/// Two normal values by Box and Muller.
#[inline(always)]
fn normal_pair<T: RealDraw>(words: &[u32], mean: T, deviation: T) -> [T; 2] {
    let radius = T::from_f64(-2.0).mul(T::positive_unit(words).ln()).sqrt().mul(deviation);
    let angle = T::turn(&words[T::WORDS..]).mul(T::from_f64(std::f64::consts::TAU));
    [radius.mul_add(angle.cos(), mean), radius.mul_add(angle.sin(), mean)]
}

/// `[out]`, ints `[seed, offset]`, floats `[mean, deviation]`. Words: 1, or 2 for f64.
pub fn normal(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    match_real!(out.dtype(), T, WORDS => {
        let (mean, deviation) = (attrs.float(0) as T, attrs.float(1) as T);
        fill(&out, attrs, Pairs::<_, WORDS>(#[inline(always)] move |words: &[u32]| normal_pair(words, mean, deviation)))
    })
}

/// `[out]`, ints `[seed, offset]`, floats `[mean, deviation]` of the logarithm. Words: 1, or 2 for
/// f64.
pub fn log_normal(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    match_real!(out.dtype(), T, WORDS => {
        let (mean, deviation) = (attrs.float(0) as T, attrs.float(1) as T);
        fill(&out, attrs, Pairs::<_, WORDS>(#[inline(always)] move |words: &[u32]| {
            normal_pair(words, mean, deviation).map(Floating::exp)
        }))
    })
}

/// `-ln(1 - u)`, never zero: others divide by it.
#[inline(always)]
pub(super) fn standard_exponential<T: RealDraw>(words: &[u32]) -> T {
    let smallest = T::EPSILON.mul(T::from_f64(0.5));
    Value::max(T::positive_unit(words).ln().neg(), smallest)
}

/// `[out]`, ints `[seed, offset]`, floats `[rate]`. Words: 1, or 2 for f64.
pub fn exponential(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    match_real!(out.dtype(), T, WORDS => {
        let rate = attrs.float(0) as T;
        fill(&out, attrs, Each::<_, WORDS>(#[inline(always)] move |words: &[u32]| standard_exponential::<T>(words) / rate))
    })
}

/// `[out]`, ints `[seed, offset]`, floats `[median, scale]`. Words: 1, or 2 for f64.
pub fn cauchy(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    match_real!(out.dtype(), T, WORDS => {
        let (median, scale) = (attrs.float(0) as T, attrs.float(1) as T);
        let half_turn = std::f64::consts::PI as T;
        fill(&out, attrs, Each::<_, WORDS>(#[inline(always)] move |words: &[u32]| {
            let angle = (T::positive_unit(words) - 0.5) * half_turn;
            median + scale * (Floating::sin(angle) / Floating::cos(angle))
        }))
    })
}

/// `[out]` of any dtype, ints `[seed, offset]`, floats `[p]`: trials up to the first success.
/// Words: 2.
pub fn geometric(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    let log_failure = (-attrs.float(0)).ln_1p();
    fill(
        &out,
        attrs,
        Each::<_, 2>(
            #[inline(always)]
            move |words: &[u32]| {
                let trials = (Floating::ln(f64::positive_unit(words)) / log_failure).ceil();
                if trials < 1.0 { 1.0 } else { trials }
            },
        ),
    )
}

/// `[out]` of any dtype, ints `[seed, offset]`, floats `[p]`: one with probability p. Words: 1.
pub fn bernoulli(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    let p = probability(attrs.float(0))?;
    let below = (p * (1u64 << 32) as f64) as u64;
    fill(
        &out,
        attrs,
        Each::<_, 1>(
            #[inline(always)]
            move |words: &[u32]| u8::from(u64::from(words[0]) < below),
        ),
    )
}

/// `[out, p]` of one shape, any dtype of out, ints `[seed, offset]`. Words: 1.
pub fn bernoulli_tensor(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, p] = views else {
        return Err(Error::Runtime(format!("expected [out, p], got {} operands", views.len())));
    };
    let stream = Stream::of(attrs)?;
    if out.sizes() != p.sizes() {
        return Err(Error::Shape(format!("p of shape {:?} must match {:?}", p.sizes(), out.sizes())));
    }
    let mut probabilities = filled(p.numel(), 0f64);
    let strides = contiguous_strides(p.sizes());
    // SAFETY: the vector has an element for each of `p`'s.
    let dense = unsafe { View::new(probabilities.as_mut_ptr().cast(), DType::F64, p.sizes(), &strides) };
    copy::launch(&[dense, *p], &Attrs::default())?;
    for &p in &probabilities {
        probability(p)?;
    }
    let cast = Cast::new(DType::U8, out.dtype())?;
    let level = isa::level();
    through_dense(out, |dense| {
        let (to, size) = (Address(dense.bytes()), dense.dtype().size());
        for_each_block(dense.numel(), stream, random_word(), |start, words: &[i32]| {
            let mut values = [0u8; BLOCK];
            for ((value, &word), p) in values.iter_mut().zip(words).zip(&probabilities[start..]) {
                *value = u8::from(f64::from(word as u32) * (1.0 / (1u64 << 32) as f64) < *p);
            }
            // SAFETY: the block is within the dense output; blocks are disjoint.
            unsafe { (cast.run)(level, words.len(), values.as_ptr(), 1, to.at(start * size), 1) };
        });
        Ok(())
    })
}

/// The bits of one word, as the integer type that elements come in.
pub(super) fn random_word() -> impl Draw<i32> {
    Each::<_, 1>(
        #[inline(always)]
        |words: &[u32]| words[0] as i32,
    )
}

fn probability(p: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&p) {
        return Ok(p);
    }
    Err(Error::Runtime(format!("Expected p_in >= 0 && p_in <= 1 to be true, but got {p}")))
}

/// `[out]` of any dtype, ints `[seed, offset, from, range]`: integers from `from`, `range` of them
/// as u64, where zero means all 2^64. Words: 1, or 2 where range is zero or above 2^32.
pub fn random(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let out = expect_output(views)?;
    let (from, range) = (attrs.int(2), attrs.int(3) as u64);
    match range {
        0 => fill(
            &out,
            attrs,
            Each::<_, 2>(
                #[inline(always)]
                move |words: &[u32]| from.wrapping_add((u64::from(words[0]) | u64::from(words[1]) << 32) as i64),
            ),
        ),
        1..=0x1_0000_0000 => fill(
            &out,
            attrs,
            Each::<_, 1>(
                #[inline(always)]
                move |words: &[u32]| from.wrapping_add(((u64::from(words[0]) * range) >> 32) as i64),
            ),
        ),
        _ => fill(
            &out,
            attrs,
            Each::<_, 2>(
                #[inline(always)]
                move |words: &[u32]| {
                    let word = u64::from(words[0]) | u64::from(words[1]) << 32;
                    from.wrapping_add(((u128::from(word) * u128::from(range)) >> 64) as i64)
                },
            ),
        ),
    }
}
