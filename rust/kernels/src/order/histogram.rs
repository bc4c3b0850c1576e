//! Counting points in the cells of a grid.

use super::search::search;
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::lanes::Real;
use crate::match_float;
use crate::value::Value;
use crate::view::{Attrs, View};

/// How a coordinate's bin is found; the codes of the row's ints.
#[derive(Clone, Copy, PartialEq)]
enum Find {
    /// By its place between the outermost edges.
    Linear,
    /// So, and then among the edges nearby: they are rounded.
    LinearThenNear,
    /// Among all edges.
    Search,
}

/// `[out (a dimension a coordinate), points (rows × coordinates), weights? (rows), edges (1-D)...]`,
/// floating and of one dtype; ints `[find (0 linear, 1 linear then near, 2 search)]`: how many points,
/// or what weight, each cell has. A cell has its lower edges, the last one its upper edge as well;
/// points outside and NaN count nowhere.
pub fn histogram(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, points, weights, edges @ ..] = views else {
        return Err(Error::Runtime("expected [out, points, weights?, edges...]".into()));
    };
    let find = match attrs.int(0) {
        0 => Find::Linear,
        1 => Find::LinearThenNear,
        _ => Find::Search,
    };
    points.expect_rank("points", 2)?;
    let (rows, coordinates) = (points.size(0), points.size(1));
    if edges.len() != coordinates {
        return Err(Error::Shape(format!("expected {coordinates} sequences of edges, got {}", edges.len())));
    }
    let mut bins = Vec::new();
    for edges in edges {
        edges.expect_rank("edges", 1)?;
        edges.expect_dtype("edges", points.dtype())?;
        let cells = edges.size(0).checked_sub(1).filter(|&cells| cells > 0);
        bins.push(cells.ok_or_else(|| Error::Shape(format!("expected two edges or more, got {edges:?}")))?);
    }
    out.expect_dtype("out", points.dtype())?;
    out.expect_sizes("out", &bins)?;
    if let Some(weights) = weights.optional() {
        weights.expect_dtype("weights", points.dtype())?;
        weights.expect_sizes("weights", &[rows])?;
    }
    match_float!(points.dtype(), S => fill::<S>(out, points, weights.optional(), edges, find));
    Ok(())
}

fn fill<S: StoredFloat>(out: &View<'_>, points: &View<'_>, weights: Option<&View<'_>>, edges: &[View<'_>], find: Find) {
    let load = |view: &View<'_>, offset: isize| {
        // SAFETY: an element of the view.
        StoredFloat::load(unsafe { *view.ptr::<S>().wrapping_offset(offset) })
    };
    let edges: Vec<Vec<S::Math>> = edges
        .iter()
        .map(|edges| (0..edges.size(0) as isize).map(|at| load(edges, at * edges.stride(0))).collected())
        .collected();
    let mut cells = filled(out.numel(), S::Math::ZERO);
    for row in 0..points.size(0) as isize {
        let mut cell = Some(0);
        for (at, edges) in edges.iter().enumerate() {
            let value = load(points, row * points.stride(0) + at as isize * points.stride(1));
            let bin = bin_of(value, edges, find);
            cell = cell.zip(bin).map(|(cell, bin)| cell * (edges.len() - 1) + bin);
        }
        if let Some(cell) = cell {
            let weight = weights.map_or(S::Math::ONE, |weights| load(weights, row * weights.stride(0)));
            cells[cell] = cells[cell].add(weight);
        }
    }
    for (cell, sum) in cells.into_iter().enumerate() {
        let offset = crate::index::offset_of(out, cell);
        // SAFETY: a cell of the output.
        unsafe { *out.ptr::<S>().wrapping_offset(offset) = S::save(sum) };
    }
}

fn bin_of<T: Real>(value: T, edges: &[T], find: Find) -> Option<usize> {
    let (first, last) = (edges[0], edges[edges.len() - 1]);
    let inside = value >= first && value <= last;
    if !inside {
        return None;
    }
    let before = |edge: T| edge <= value;
    let bin = if find == Find::Search {
        search(edges.len(), |at| before(edges[at])) - 1
    } else {
        let scaled = value.sub(first).mul(T::from_f64((edges.len() - 1) as f64)).div(last.sub(first));
        let guess = (Ord::max(Element::to_i64(scaled), 0) as usize).min(edges.len() - 1);
        if find == Find::Linear {
            guess
        } else {
            let (low, high) = (guess.saturating_sub(1), (guess + 2).min(edges.len()));
            (low + search(high - low, |at| before(edges[low + at]))).saturating_sub(1)
        }
    };
    Some(bin.min(edges.len() - 2))
}
