//! Bags of rows of a table: their sum, mean or largest, and the gradients.

use super::Arithmetic;
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, reserved};
use crate::match_float;
use crate::reduce::dense_as;
use crate::reduce::engine::Shared;
use crate::threads;
use crate::validate::indices::Legal;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Columns of a task of the backward pass.
const COLUMNS: usize = 64;

/// PyTorch's codes.
const SUM: i64 = 0;
const MEAN: i64 = 1;
const MAX: i64 = 2;

/// The integers of a 1-D view.
fn integers(view: &View<'_>, name: &str) -> Result<Vec<i64>> {
    view.expect_rank(name, 1)?;
    let mut values = reserved(view.size(0));
    dense_as(view, DType::I64, |view| {
        // SAFETY: the view's elements.
        values.extend((0..view.size(0)).map(|at| unsafe { *view.ptr::<i64>().offset(at as isize * view.stride(0)) }));
        Ok(())
    })?;
    Ok(values)
}

fn check_rows(rows: &[i64], table: &View<'_>) -> Result<()> {
    let size = table.sizes()[0];
    Legal::below(size).check_all(rows.iter().copied(), |row| {
        Error::Runtime(format!(
            "embedding_bag: Expected idx >= 0 && idx < num_embeddings but found idx to be {row} of {size}"
        ))
    })
}

/// Where each bag's tokens begin; the last entry is their number.
fn bounds(offsets: &[i64], tokens: usize, with_last: bool, mode: i64) -> Result<Vec<usize>> {
    let given = if with_last { &offsets[..offsets.len().saturating_sub(1)] } else { offsets };
    if offsets.first().is_some_and(|&first| first != 0) {
        return Err(Error::Runtime(format!(
            "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. However, \
             got {}",
            offsets[0]
        )));
    }
    if offsets.last().is_some_and(|&last| last > tokens as i64) {
        return Err(Error::Runtime(format!(
            "offsets[-1] can not be greater than input's length {tokens} but got offsets[-1] of {}",
            offsets[offsets.len() - 1]
        )));
    }
    if let Some(&index) = offsets.iter().find(|&&offset| offset < 0) {
        // As on the CPU, where a sum meets it elsewhere.
        return Err(match mode {
            SUM => Error::Runtime(format!("embedding_bag: offsets have to be positive, but got {index}")),
            _ => Error::OutOfRange { index, elements: tokens as i64 },
        });
    }
    let end = if with_last { offsets.last().map_or(0, |&last| last as usize) } else { tokens };
    let bounds: Vec<usize> = given.iter().map(|&offset| offset as usize).chain([end]).collected();
    if bounds.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(Error::Runtime("embedding_bag: offsets must not decrease".into()));
    }
    Ok(bounds)
}

/// The weight of each token of a sum.
fn check_weights(weights: Option<&View<'_>>, tokens: usize, table: &View<'_>) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    weights.expect_sizes("per_sample_weights", &[tokens])?;
    weights.expect_dtype("per_sample_weights", table.dtype())
}

/// `[out, offset2bag, bag_size, max_indices?, weight, indices, offsets, per_sample_weights?]`: `[bags,
/// width]`, `[tokens]`, `[bags]`, `[bags, width]`, of i64 the three; ints `[mode (0 sum, 1 mean, 2
/// max), include_last_offset, padding_idx]`. Tokens that are `padding_idx` do not count.
pub fn embedding_bag(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, bags, counts, largest, table, indices, offsets, weights] = views else {
        return Err(Error::Runtime(format!("expected 8 views, got {}", views.len())));
    };
    let (mode, padding) = (attrs.int(0), attrs.int(2));
    table.expect_rank("weight", 2)?;
    out.expect_dtype("out", table.dtype())?;
    let rows = integers(indices, "indices")?;
    check_rows(&rows, table)?;
    let bounds = bounds(&integers(offsets, "offsets")?, rows.len(), attrs.flag(1), mode)?;
    let (bag_count, width) = (bounds.len() - 1, table.size(1));
    check_weights(weights.optional(), rows.len(), table)?;
    out.expect_sizes("out", &[bag_count, width])?;
    for (name, view, sizes) in
        [("offset2bag", bags, Vec::from([rows.len()])), ("bag_size", counts, Vec::from([bag_count]))].into_iter()
    {
        view.expect_dtype(name, DType::I64)?;
        view.expect_sizes(name, &sizes)?;
    }
    if mode == MAX {
        largest.expect_dtype("max_indices", DType::I64)?;
        largest.expect_sizes("max_indices", &[bag_count, width])?;
    }
    // Tokens before the first bag or after the last belong to none of them: offsets[0] is zero, and
    // a last offset may leave some out.
    for bag in 0..bag_count {
        let tokens = bounds[bag]..bounds[bag + 1];
        let count = rows[tokens.clone()].iter().filter(|&&row| row != padding).count();
        // SAFETY: an element for each token and each bag.
        unsafe {
            *counts.ptr::<i64>().offset(bag as isize * counts.stride(0)) = count as i64;
            for token in tokens {
                *bags.ptr::<i64>().offset(token as isize * bags.stride(0)) = bag as i64;
            }
        }
    }
    for token in bounds[bag_count]..rows.len() {
        // SAFETY: as above.
        unsafe { *bags.ptr::<i64>().offset(token as isize * bags.stride(0)) = bag_count as i64 };
    }
    match_float!(table.dtype(), S => {
        type Math<S> = <S as Arithmetic>::Math;
        let work = (rows.len() + bag_count) * width;
        threads::parallel_chunks(bag_count, (4096 / width.max(1)).max(1), work, |range| {
            for bag in range {
                let tokens = bounds[bag]..bounds[bag + 1];
                let used: Vec<usize> = tokens.filter(|&token| rows[token] != padding).collected();
                let scale = if mode == MEAN && !used.is_empty() { 1.0 / used.len() as f64 } else { 1.0 };
                for column in 0..width {
                    let value = |token: usize| {
                        let offset = rows[token] as isize * table.stride(0) + column as isize * table.stride(1);
                        // SAFETY: rows were checked.
                        Math::<S>::load(unsafe { *table.ptr::<S>().offset(offset) })
                    };
                    let mut result = <Math<S> as Value>::ZERO;
                    let mut best = -1;
                    for (at, &token) in used.iter().enumerate() {
                        let value = value(token);
                        if mode == MAX {
                            if at == 0 || value > result {
                                (result, best) = (value, rows[token]);
                            }
                        } else {
                            let weight = weights.optional().map(|weights| {
                                // SAFETY: an element for each token.
                                unsafe { *weights.ptr::<S>().offset(token as isize * weights.stride(0)) }
                            });
                            let value = weight.map_or(value, |weight| value.mul(Math::<S>::load(weight)));
                            result = result.add(value);
                        }
                    }
                    if mode == MEAN {
                        result = result.mul(Stored::from_f64(scale));
                    }
                    let place = |view: &View<'_>| bag as isize * view.stride(0) + column as isize * view.stride(1);
                    // SAFETY: a place of this bag in each output.
                    unsafe {
                        *out.ptr::<S>().offset(place(out)) = result.save();
                        if mode == MAX {
                            *largest.ptr::<i64>().offset(place(largest)) = best;
                        }
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[grad_weight, grad, indices, offset2bag, bag_size, max_indices?, per_sample_weights?]`; ints
/// `[mode, scale_grad_by_freq, padding_idx]`. Every token's share is added in the tokens' order.
pub fn embedding_bag_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_table, grad, indices, bags, counts, largest, weights] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    let (mode, by_frequency, padding) = (attrs.int(0), attrs.flag(1), attrs.int(2));
    grad_table.expect_rank("grad_weight", 2)?;
    let width = grad_table.size(1);
    let rows = integers(indices, "indices")?;
    check_rows(&rows, grad_table)?;
    let counts = integers(counts, "bag_size")?;
    let bags = integers(bags, "offset2bag")?;
    grad.expect_dtype("grad", grad_table.dtype())?;
    grad.expect_sizes("grad", &[counts.len(), width])?;
    if bags.len() != rows.len() || bags.iter().any(|bag| !(0..=counts.len() as i64).contains(bag)) {
        return Err(Error::Shape("embedding_bag: offset2bag does not fit the indices and the bags".into()));
    }
    check_weights(weights.optional(), rows.len(), grad_table)?;
    if mode == MAX {
        largest.expect_dtype("max_indices", DType::I64)?;
        largest.expect_sizes("max_indices", &[counts.len(), width])?;
    }
    let mut frequency = filled(grad_table.size(0), 0i64);
    if by_frequency {
        rows.iter().for_each(|&row| frequency[row as usize] += 1);
    }
    match_float!(grad.dtype(), S => {
        type Math<S> = <S as Arithmetic>::Math;
        // Each token's bag and factor.
        let factors: Vec<(usize, Math<S>)> = (0..rows.len())
            .map(|token| {
                let bag = bags[token] as usize;
                if rows[token] == padding || bag >= counts.len() {
                    return (bag, <Math<S> as Value>::ZERO);
                }
                let mut factor = 1.0;
                if let Some(weights) = weights.optional() {
                    // SAFETY: an element for each token.
                    let weight = unsafe { *weights.ptr::<S>().offset(token as isize * weights.stride(0)) };
                    factor = Stored::to_f64(weight);
                }
                if mode == MEAN {
                    factor /= Ord::max(counts[bag], 1) as f64;
                }
                if by_frequency {
                    factor /= frequency[rows[token] as usize] as f64;
                }
                (bag, Stored::from_f64(factor))
            })
            .collected();
        let table_rows = grad_table.size(0);
        let work = table_rows * width / 4 + rows.len() * width;
        threads::parallel_chunks(width, COLUMNS, work, |columns| {
            let count = columns.len();
            let mut sums = filled(table_rows * count, <Math<S> as Value>::ZERO);
            let grad_at = |bag: usize, column: usize| {
                let offset = bag as isize * grad.stride(0) + column as isize * grad.stride(1);
                // SAFETY: a bag's place in the gradient.
                Math::<S>::load(unsafe { *grad.ptr::<S>().offset(offset) })
            };
            if mode == MAX {
                for bag in (0..counts.len()).filter(|&bag| counts[bag] > 0) {
                    for column in columns.clone() {
                        let offset = bag as isize * largest.stride(0) + column as isize * largest.stride(1);
                        // SAFETY: a bag's place.
                        let row = unsafe { *largest.ptr::<i64>().offset(offset) };
                        if let Some(sum) = sums.get_mut(row as usize * count + column - columns.start) {
                            *sum = sum.add(grad_at(bag, column));
                        }
                    }
                }
            } else {
                for (&row, &(bag, factor)) in rows.iter().zip(&factors) {
                    if factor != <Math<S> as Value>::ZERO {
                        for column in columns.clone() {
                            let sum = &mut sums[row as usize * count + column - columns.start];
                            *sum = sum.add(grad_at(bag, column).mul(factor));
                        }
                    }
                }
            }
            for (at, sum) in sums.into_iter().enumerate() {
                let (row, column) = (at / count, columns.start + at % count);
                let offset = row as isize * grad_table.stride(0) + column as isize * grad_table.stride(1);
                // SAFETY: the task's columns of the table's gradient.
                unsafe { *grad_table.ptr::<S>().offset(offset) = sum.save() };
            }
        });
    });
    Ok(())
}

/// `[grad_weights, grad, weight, indices, offset2bag]`; ints `[padding_idx]`: what each token's
/// weight multiplied, summed.
pub fn embedding_bag_weights_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_weights, grad, table, indices, bags] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let padding = attrs.int(0);
    table.expect_rank("weight", 2)?;
    grad.expect_rank("grad", 2)?;
    let rows = integers(indices, "indices")?;
    check_rows(&rows, table)?;
    let bags = integers(bags, "offset2bag")?;
    for (name, view) in [("grad", grad), ("grad_weights", grad_weights)] {
        view.expect_dtype(name, table.dtype())?;
    }
    grad_weights.expect_sizes("grad_weights", &[rows.len()])?;
    grad.expect_sizes("grad", &[grad.size(0), table.size(1)])?;
    if bags.len() != rows.len() || bags.iter().any(|bag| !(0..=grad.sizes()[0]).contains(bag)) {
        return Err(Error::Shape("embedding_bag: offset2bag does not fit the indices and the bags".into()));
    }
    let width = table.size(1);
    match_float!(table.dtype(), S => {
        type Math<S> = <S as Arithmetic>::Math;
        let to = Shared(grad_weights.ptr::<S>());
        threads::parallel_chunks(rows.len(), (4096 / width.max(1)).max(1), rows.len() * width, |range| {
            for token in range {
                let mut sum = <Math<S> as Value>::ZERO;
                if rows[token] != padding && bags[token] < grad.sizes()[0] {
                    for column in 0..width {
                        let at = |view: &View<'_>, row: i64| {
                            let offset = row as isize * view.stride(0) + column as isize * view.stride(1);
                            // SAFETY: rows and bags were checked.
                            Math::<S>::load(unsafe { *view.ptr::<S>().offset(offset) })
                        };
                        sum = sum.add(at(table, rows[token]).mul(at(grad, bags[token])));
                    }
                }
                // SAFETY: a token's own place.
                unsafe { *to.at(0).offset(token as isize * grad_weights.stride(0)) = sum.save() };
            }
        });
    });
    Ok(())
}

/// `[weight, indices]`; floats `[max_norm, p]`: rows that tokens name and whose norm is above the
/// largest are scaled down to it.
pub fn embedding_renorm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [table, indices] = views else {
        return Err(Error::Runtime(format!("expected [weight, indices], got {} views", views.len())));
    };
    let (most, power) = (attrs.float(0), attrs.float(1));
    table.expect_rank("weight", 2)?;
    let mut rows = integers(indices, "indices")?;
    let size = table.sizes()[0];
    Legal::below(size).check_all(rows.iter().copied(), |index| Error::Index { index, dim: 0, size })?;
    rows.sort_unstable();
    rows.dedup();
    let width = table.size(1);
    match_float!(table.dtype(), S => {
        threads::parallel_chunks(rows.len(), (4096 / width.max(1)).max(1), rows.len() * width * 2, |range| {
            for &row in &rows[range] {
                let at = |column: usize| {
                    let offset = row as isize * table.stride(0) + column as isize * table.stride(1);
                    table.ptr::<S>().wrapping_offset(offset)
                };
                // SAFETY: the row was checked; rows are distinct.
                unsafe {
                    let sizes = (0..width).map(|column| Stored::to_f64(*at(column)).abs());
                    let norm = if power == 1.0 {
                        sizes.sum()
                    } else if power == f64::INFINITY {
                        sizes.fold(0.0, f64::max)
                    } else if power == 2.0 {
                        sizes.map(|size| size * size).sum::<f64>().sqrt()
                    } else {
                        sizes.map(|size| size.powf(power)).sum::<f64>().powf(1.0 / power)
                    };
                    if norm > most {
                        let scale = most / (norm + 1e-7);
                        for column in 0..width {
                            *at(column) = S::from_f64(Stored::to_f64(*at(column)) * scale);
                        }
                    }
                }
            }
        });
    });
    Ok(())
}
