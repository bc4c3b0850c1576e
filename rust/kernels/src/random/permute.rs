//! Random permutations and samples by weight.

use super::{Stream, philox};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::index::contiguous_strides;
use crate::loops::copy::{self, Cast};
use crate::threads;
use crate::view::{Attrs, View};

/// The 64 random bits of draw `at`.
fn bits(stream: Stream, at: u64) -> u64 {
    let words = philox::block(stream.seed, stream.offset.wrapping_add(at / 2));
    let pair = 2 * (at % 2) as usize;
    u64::from(words[pair]) | u64::from(words[pair + 1]) << 32
}

/// A draw in (0, 1].
fn positive_unit(stream: Stream, at: u64) -> f64 {
    ((bits(stream, at) >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// `[out]`, 1-D of any dtype, ints `[seed, offset]`: a permutation of `0..n` (Fisher and Yates).
/// Words: 2.
pub fn randperm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out] = views else {
        return Err(Error::Runtime(format!("expected one operand, got {}", views.len())));
    };
    out.expect_rank("out", 1)?;
    let stream = Stream::of(attrs)?;
    let cast = Cast::new(DType::I64, out.dtype())?;
    let count = out.numel();
    let mut order: Vec<i64> = (0..count as i64).collected();
    for at in 0..count {
        let left = (count - at) as u128;
        let chosen = (u128::from(bits(stream, at as u64)) * left) >> 64;
        order.swap(at, at + chosen as usize);
    }
    // SAFETY: `count` elements on both sides.
    unsafe { (cast.run)(crate::isa::level(), count, order.as_ptr().cast(), 1, out.bytes(), out.stride(0)) };
    Ok(())
}

/// `[out (i64, rows × samples), weights (rows × categories)]`, ints `[seed, offset, replacement]`:
/// categories by weight. Words: 2 a sample with replacement, 2 a category without.
pub fn multinomial(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, weights] = views else {
        return Err(Error::Runtime(format!("expected [out, weights], got {} operands", views.len())));
    };
    out.expect_rank("out", 2)?;
    out.expect_dtype("out", DType::I64)?;
    weights.expect_rank("weights", 2)?;
    let stream = Stream::of(attrs)?;
    let replacement = attrs.flag(2);
    let (rows, categories, samples) = (weights.size(0), weights.size(1), out.size(1));
    let mut dense = filled(rows * categories, 0f64);
    let strides = contiguous_strides(weights.sizes());
    // SAFETY: the vector has an element for each weight.
    let copied = unsafe { View::new(dense.as_mut_ptr().cast(), DType::F64, weights.sizes(), &strides) };
    copy::launch(&[copied, *weights], &Attrs::default())?;
    for row in dense.chunks_exact(categories.max(1)) {
        check_weights(row, samples, replacement)?;
    }
    let draws = if replacement { samples } else { categories };
    threads::parallel(rows, rows * (categories + draws) * 10, |row| {
        let weights = &dense[row * categories..][..categories];
        let first = (row * draws) as u64;
        let chosen = if replacement {
            with_replacement(weights, samples, stream, first)
        } else {
            without_replacement(weights, samples, stream, first)
        };
        for (at, category) in chosen.into_iter().enumerate() {
            let to = row as isize * out.stride(0) + at as isize * out.stride(1);
            // SAFETY: within `out`; each task writes its own row.
            unsafe { *out.ptr::<i64>().wrapping_offset(to) = category };
        }
    });
    Ok(())
}

fn check_weights(weights: &[f64], samples: usize, replacement: bool) -> Result<()> {
    if weights.iter().any(|&weight| !weight.is_finite() || weight < 0.0) {
        return Err(Error::Runtime("probability tensor contains either `inf`, `nan` or element < 0".into()));
    }
    let positive = weights.iter().filter(|&&weight| weight > 0.0).count();
    if positive == 0 {
        return Err(Error::Runtime("invalid multinomial distribution (sum of probabilities <= 0)".into()));
    }
    if !replacement && positive < samples {
        return Err(Error::Runtime(
            "invalid multinomial distribution (with replacement=False, not enough non-negative category to sample)"
                .into(),
        ));
    }
    Ok(())
}

fn with_replacement(weights: &[f64], samples: usize, stream: Stream, first: u64) -> Vec<i64> {
    let mut total = 0.0;
    let sums: Vec<f64> = weights
        .iter()
        .map(|weight| {
            total += weight;
            total
        })
        .collected();
    // The draw is above zero, so a category of no weight, which adds nothing to its sum, is never
    // the first to reach it.
    let pick = |at: usize| {
        let target = positive_unit(stream, first + at as u64) * total;
        sums.partition_point(|&sum| sum < target).min(sums.len() - 1) as i64
    };
    (0..samples).map(pick).collected()
}

/// An exponential race: the categories that arrive first, at their weights' rates.
fn without_replacement(weights: &[f64], samples: usize, stream: Stream, first: u64) -> Vec<i64> {
    let mut arrivals: Vec<(f64, i64)> = weights
        .iter()
        .enumerate()
        .filter(|&(_, &weight)| weight > 0.0)
        .map(|(at, weight)| (-positive_unit(stream, first + at as u64).ln() / weight, at as i64))
        .collected();
    arrivals.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    arrivals.into_iter().take(samples).map(|(_, category)| category).collected()
}
