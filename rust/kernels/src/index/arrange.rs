//! flip, roll, tril and triu: copies between regular parts of tensors.

use super::read::expect;
use super::{Dims, match_size};
use crate::error::{Error, Result};
use crate::loops::copy;
use crate::threads;
use crate::view::{Attrs, View};

/// `[out, self]`, ints: the dimensions to reverse.
pub fn flip(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, from] = expect(views)?;
    let mut strides: Dims = from.strides().into();
    let mut offset = 0;
    for &dim in attrs.ints {
        let dim = known_dim(&from, dim)?;
        offset += (from.sizes()[dim] - 1).max(0) * strides[dim];
        strides[dim] = -strides[dim];
    }
    // SAFETY: the same elements in another order.
    let reversed = unsafe { from.reshaped(offset as isize, from.sizes(), &strides) };
    copy::launch(&[out, reversed], &Attrs::default())
}

/// `[out, self]`, ints `[dim, shift, dim, shift, ...]`, each dimension at most once.
pub fn roll(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, from] = expect(views)?;
    if out.sizes() != from.sizes() {
        return Err(Error::Shape(format!("cannot roll {:?} into {:?}", from.sizes(), out.sizes())));
    }
    let shifts = attrs.ints.chunks_exact(2).map(|pair| Ok((known_dim(&from, pair[0])?, pair[1])));
    roll_from(&out, &from, &Result::<Vec<_>>::from_iter(shifts)?)
}

/// Rolls along the first dimension of `shifts`, two pieces, and each along the others.
fn roll_from(out: &View<'_>, from: &View<'_>, shifts: &[(usize, i64)]) -> Result<()> {
    if from.numel() == 0 {
        return Ok(());
    }
    let Some((&(dim, shift), rest)) = shifts.split_first() else {
        return copy::launch(&[*out, *from], &Attrs::default());
    };
    let size = from.sizes()[dim];
    let shift = shift.rem_euclid(size);
    let piece = |view: &View<'_>, start: i64, length: i64, sizes: &mut Dims| {
        *sizes = view.sizes().into();
        sizes[dim] = length;
        start as isize * view.stride(dim)
    };
    for (to_start, from_start, length) in [(shift, 0, size - shift), (0, size - shift, shift)] {
        let mut sizes = Dims::new();
        let to_offset = piece(out, to_start, length, &mut sizes);
        let from_offset = piece(from, from_start, length, &mut sizes);
        // SAFETY: pieces of both views along `dim`.
        unsafe {
            let to = out.reshaped(to_offset, &sizes, out.strides());
            roll_from(&to, &from.reshaped(from_offset, &sizes, from.strides()), rest)?;
        }
    }
    Ok(())
}

fn known_dim(view: &View<'_>, dim: i64) -> Result<usize> {
    usize::try_from(dim)
        .ok()
        .filter(|&dim| dim < view.rank())
        .ok_or_else(|| Error::Shape(format!("dimension {dim} is out of range for {:?}", view.sizes())))
}

/// `[out, self]`, ints `[diagonal]`: the last two dimensions on and below the diagonal, else zero.
pub fn tril(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    triangle(views, |row, columns| (0, row.saturating_add(attrs.int(0)).saturating_add(1).clamp(0, columns)))
}

/// `[out, self]`, ints `[diagonal]`: the last two dimensions on and above the diagonal, else zero.
pub fn triu(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    triangle(views, |row, columns| (row.saturating_add(attrs.int(0)).clamp(0, columns), columns))
}

/// `kept(row, columns)` is the range of columns that a row keeps. `out` may be `self`.
fn triangle(views: &[View<'_>], kept: impl Fn(i64, i64) -> (i64, i64) + Sync) -> Result<()> {
    let [out, from] = expect(views)?;
    if out.sizes() != from.sizes() || out.rank() < 2 {
        return Err(Error::Shape(format!("expected two matrices of one shape, got {out:?} and {from:?}")));
    }
    out.expect_dtype("out", from.dtype())?;
    let rank = out.rank();
    let (rows, columns) = (out.size(rank - 2), out.size(rank - 1));
    let count = out.numel().checked_div(columns).unwrap_or(0);
    match_size!(out.dtype(), T => threads::parallel_chunks(count, (16 * 1024 / columns.max(1)).max(1), count * columns, |range| {
        for linear in range {
            let (mut to, mut source, mut rest) = (0, 0, linear);
            for dim in (0..rank - 1).rev() {
                let at = (rest % out.size(dim)) as isize;
                rest /= out.size(dim);
                to += at * out.stride(dim);
                source += at * from.stride(dim);
            }
            let (start, end) = kept((linear % rows) as i64, columns as i64);
            for column in 0..columns as isize {
                // SAFETY: a row of both views; all-zero bytes are zero in every dtype.
                unsafe {
                    let target = out.ptr::<T>().wrapping_offset(to + column * out.stride(rank - 1));
                    *target = if column as i64 >= start && (column as i64) < end {
                        *from.ptr::<T>().wrapping_offset(source + column * from.stride(rank - 1))
                    } else {
                        std::mem::zeroed()
                    };
                }
            }
        }
    }));
    Ok(())
}
