//! Scaled dot-product attention, fused: blocks of keys pass by a block of queries, and the softmax
//! is kept up to date as they do (Dao et al., FlashAttention, 2022; Rabe and Staats, 2021), so that
//! no matrix of scores is ever stored whole.
//!
//! The lanes are queries. Scores lie as `[key][query]`, so maxima, powers and sums of a softmax run
//! down columns without ever crossing lanes, and keys and values are read one number at a time, in
//! place, at any strides.

mod backward;
mod block;
mod forward;
#[allow(clippy::needless_range_loop, reason = "two indices over arrays of fixed sizes unroll into registers")]
mod product;

use crate::convert::{Stored, StoredFloat};
use crate::dtype::DType;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::match_float;
use crate::matmul::Matrix;
use crate::random::Stream;
use crate::view::{Attrs, View};

/// Queries of a block.
const QUERIES: usize = 64;
/// Keys of a block.
const KEYS: usize = 64;
/// Rows of lanes are padded to a multiple of this.
const LANES: usize = 16;

/// What a launch's sizes and scalars say.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    batch: usize,
    heads: usize,
    /// Query heads that share a head of keys and values.
    group: usize,
    queries: usize,
    keys: usize,
    width: usize,
    value_width: usize,
    causal: bool,
    scale: f64,
}

impl Geometry {
    fn of(query: &View<'_>, key: &View<'_>, value: &View<'_>, attrs: &Attrs<'_>) -> Result<Self> {
        for (name, view) in [("query", query), ("key", key), ("value", value)] {
            view.expect_rank(name, 4)?;
            view.expect_dtype(name, query.dtype())?;
        }
        let [batch, heads, queries, width] = std::array::from_fn(|dim| query.size(dim));
        let (kept, keys, value_width) = (key.size(1), key.size(2), value.size(3));
        key.expect_sizes("key", &[batch, kept, keys, width])?;
        value.expect_sizes("value", &[batch, kept, keys, value_width])?;
        let group = heads.checked_div(kept).unwrap_or(1).max(1);
        if kept * group != heads {
            return Err(Error::Shape(format!("{heads} heads of queries cannot share {kept} heads of keys and values")));
        }
        let (causal, scale) = (attrs.flag(2), attrs.float(0));
        Ok(Self { batch, heads, group, queries, keys, width, value_width, causal, scale })
    }

    fn is_empty(&self) -> bool {
        self.batch * self.heads * self.queries == 0
    }

    /// Multiply-adds of one product of the scores' size.
    fn work(&self) -> usize {
        let pairs = self.batch * self.heads * self.queries * self.keys;
        let seen = if self.causal && self.queries >= self.keys { pairs / 2 } else { pairs };
        seen * (self.width + self.value_width)
    }

    /// Keys that a block of queries sees.
    fn seen(&self, first: usize, count: usize) -> usize {
        if self.causal { self.keys.min(first + count) } else { self.keys }
    }
}

/// A 4-D operand as matrices: (length, width) of each batch and head.
#[derive(Clone, Copy)]
struct Heads<S> {
    first: Matrix<S>,
    batch_stride: isize,
    head_stride: isize,
}

impl<S: Stored> Heads<S> {
    fn of(view: &View<'_>) -> Self {
        Self {
            first: Matrix {
                data: view.ptr(),
                rows: view.size(2),
                cols: view.size(3),
                row_stride: view.stride(2),
                col_stride: view.stride(3),
            },
            batch_stride: view.stride(0),
            head_stride: view.stride(1),
        }
    }

    fn at(&self, batch: usize, head: usize) -> Matrix<S> {
        let offset = batch as isize * self.batch_stride + head as isize * self.head_stride;
        Matrix { data: self.first.data.wrapping_offset(offset), ..self.first }
    }
}

/// What both passes have: the operands, and where each query's log-sum-exp lies.
struct Inputs<S: StoredFloat> {
    geometry: Geometry,
    query: Heads<S>,
    key: Heads<S>,
    value: Heads<S>,
    mask: Option<Heads<S>>,
    dropout: Option<Dropout>,
    logsumexp: *mut S::Math,
    logsumexp_strides: [isize; 3],
}

impl<S: StoredFloat> Inputs<S> {
    fn of(
        geometry: Geometry,
        [query, key, value]: [&View<'_>; 3],
        mask: Option<&View<'_>>,
        dropout: Option<Dropout>,
        logsumexp: &View<'_>,
    ) -> Self {
        Self {
            geometry,
            query: Heads::of(query),
            key: Heads::of(key),
            value: Heads::of(value),
            mask: mask.map(Heads::of),
            dropout,
            logsumexp: logsumexp.ptr(),
            logsumexp_strides: std::array::from_fn(|dim| logsumexp.stride(dim)),
        }
    }

    /// The address of a query's log-sum-exp.
    fn logsumexp(&self, batch: usize, head: usize, query: usize) -> *mut S::Math {
        let offset: isize =
            [batch, head, query].into_iter().zip(self.logsumexp_strides).map(|(at, stride)| at as isize * stride).sum();
        self.logsumexp.wrapping_offset(offset)
    }
}

/// The log-sum-exps: one a query.
fn check_logsumexp(view: &View<'_>, geometry: &Geometry, compute: DType) -> Result<()> {
    view.expect_dtype("logsumexp", compute)?;
    view.expect_sizes("logsumexp", &[geometry.batch, geometry.heads, geometry.queries])
}

fn check_mask(mask: Option<&View<'_>>, geometry: &Geometry, dtype: DType) -> Result<()> {
    let Some(mask) = mask else { return Ok(()) };
    mask.expect_dtype("attn_mask", dtype)?;
    mask.expect_sizes("attn_mask", &[geometry.batch, geometry.heads, geometry.queries, geometry.keys])
}

/// Which scores a dropout keeps: the word of (batch, head, key, query) decides.
#[derive(Clone, Copy)]
struct Dropout {
    stream: Stream,
    /// Kept where the word is below this.
    below: u64,
    scale: f64,
    /// Words of a key.
    pitch: usize,
}

impl Dropout {
    fn of(stream: Stream, probability: f64, queries: usize) -> Result<Self> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::Runtime(format!(
                "dropout probability has to be between 0 and 1, but got {probability}"
            )));
        }
        let kept = 1.0 - probability;
        let scale = if kept == 0.0 { 0.0 } else { 1.0 / kept };
        Ok(Self { stream, below: (kept * (1u64 << 32) as f64) as u64, scale, pitch: queries.next_multiple_of(4) })
    }
}

/// `[out, logsumexp, query, key, value, mask?]`, 4-D (batch, heads, length, width), the mask
/// broadcast to (batch, heads, queries, keys); ints `[0, 0, causal]`, floats `[scale]`. A query
/// that sees no key gets zeros.
pub fn attention(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, logsumexp, query, key, value, mask] = views else {
        return Err(Error::Runtime(format!("expected 6 views, got {}", views.len())));
    };
    forward(out, logsumexp, [query, key, value], mask, attrs, None)
}

/// `[out, logsumexp, state, query, key, value, mask?]` with the seed and the offset written to
/// `state` (two i64), for the gradient; ints `[seed, offset, causal]`, floats `[scale, p]`. Words:
/// one for each pair of query and key, the queries of a key rounded up to a multiple of four.
pub fn attention_dropout(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, logsumexp, state, query, key, value, mask] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    state.expect_dtype("state", DType::I64)?;
    state.expect_sizes("state", &[2])?;
    let stream = Stream::of(attrs)?;
    query.expect_rank("query", 4)?;
    let dropout = Dropout::of(stream, attrs.float(1), query.size(2))?;
    forward(out, logsumexp, [query, key, value], mask, attrs, Some(dropout))?;
    let stride = state.stride(0);
    // SAFETY: two elements.
    unsafe {
        *state.ptr::<i64>() = stream.seed as i64;
        *state.ptr::<i64>().offset(stride) = stream.offset as i64;
    }
    Ok(())
}

fn forward(
    out: &View<'_>,
    logsumexp: &View<'_>,
    [query, key, value]: [&View<'_>; 3],
    mask: &View<'_>,
    attrs: &Attrs<'_>,
    dropout: Option<Dropout>,
) -> Result<()> {
    let geometry = Geometry::of(query, key, value, attrs)?;
    out.expect_dtype("out", query.dtype())?;
    out.expect_sizes("out", &[geometry.batch, geometry.heads, geometry.queries, geometry.value_width])?;
    check_logsumexp(logsumexp, &geometry, query.dtype().compute())?;
    check_mask(mask.optional(), &geometry, query.dtype())?;
    match_float!(query.dtype(), S => {
        let inputs = Inputs::<S>::of(geometry, [query, key, value], mask.optional(), dropout, logsumexp);
        forward::Problem { inputs, out: Heads::of(out) }.run();
    });
    Ok(())
}

/// `[grad_query, grad_key, grad_value, grad_mask?, grad_out, query, key, value, mask?, out,
/// logsumexp, seed?, offset?]`, the gradient of the mask of (batch, heads, queries, keys); the seed
/// and the offset (one i64 each) of a forward pass with dropout. Ints `[0, 0, causal]`, floats
/// `[scale, p]`.
pub fn attention_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_query, grad_key, grad_value, grad_mask, grad, query, key, value, mask, out, logsumexp, seed, offset] =
        views
    else {
        return Err(Error::Runtime(format!("expected 13 views, got {}", views.len())));
    };
    let geometry = Geometry::of(query, key, value, attrs)?;
    let dtype = query.dtype();
    for (name, view, like) in
        [("grad_query", grad_query, query), ("grad_key", grad_key, key), ("grad_value", grad_value, value)]
    {
        view.expect_dtype(name, dtype)?;
        let sizes: [usize; 4] = std::array::from_fn(|dim| like.size(dim));
        view.expect_sizes(name, &sizes)?;
    }
    for (name, view) in [("out", out), ("grad_out", grad)] {
        view.expect_dtype(name, dtype)?;
        view.expect_sizes(name, &[geometry.batch, geometry.heads, geometry.queries, geometry.value_width])?;
    }
    check_logsumexp(logsumexp, &geometry, dtype.compute())?;
    check_mask(mask.optional(), &geometry, dtype)?;
    check_mask(grad_mask.optional(), &geometry, dtype)?;
    let mut dropout = None;
    if let (Some(seed), Some(offset)) = (seed.optional(), offset.optional()) {
        for (name, view) in [("seed", seed), ("offset", offset)] {
            view.expect_dtype(name, DType::I64)?;
            if view.numel() != 1 {
                return Err(Error::Shape(format!("expected {name} to be one number, got {:?}", view.sizes())));
            }
        }
        // SAFETY: one element each.
        let [seed, offset] = [seed, offset].map(|view| unsafe { *view.ptr::<i64>() } as u64);
        dropout = Some(Dropout::of(Stream { seed, offset }, attrs.float(1), geometry.queries)?);
    }
    match_float!(dtype, S => {
        let problem = backward::Problem::<S> {
            inputs: Inputs::of(geometry, [query, key, value], mask.optional(), dropout, logsumexp),
            out: Heads::of(out),
            grad: Heads::of(grad),
            grad_query: Heads::of(grad_query),
            grad_key: Heads::of(grad_key),
            grad_value: Heads::of(grad_value),
            grad_mask: grad_mask.optional().map(Heads::of),
        };
        problem.run();
    });
    Ok(())
}

/// A block in the type of the arithmetic: in place, or converted into `scratch`.
///
/// # Safety
/// The block is valid, and the scratch for its elements.
#[inline(always)]
unsafe fn converted<S: StoredFloat>(block: Matrix<S>, scratch: *mut S::Math) -> Matrix<S::Math> {
    let Matrix { data, rows, cols, row_stride, col_stride } = block;
    if S::DTYPE == <S::Math as Element>::DTYPE {
        return Matrix { data: data.cast(), rows, cols, row_stride, col_stride };
    }
    let dense = Matrix::dense(scratch, rows, cols);
    for row in 0..rows {
        for col in 0..cols {
            // SAFETY: the caller's.
            unsafe { *dense.at(row, col) = (*block.at(row, col)).load() };
        }
    }
    dense
}
