//! Batch, group and layer normalisation. Statistics come from one place, `reduce::moments`; batch
//! and group normalisation also share their passes over `[N, C, ...]` (`channels`).

mod batch;
mod channels;
mod group;
mod layer;

pub use batch::{batch_norm, batch_norm_backward, batch_norm_coefficients, map_channels};
pub use group::{group_norm, group_norm_backward};
pub use layer::{layer_norm, layer_norm_backward};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::index::contiguous_strides;
use crate::loops::copy;
use crate::reduce::dense_as;
use crate::view::{Attrs, View};

/// The elements of a parameter or statistic, which is there, in C order, as f64.
fn values(view: &View<'_>) -> Result<Vec<f64>> {
    if !view.is_present() {
        return Err(Error::Shape("expected the mean and the deviation that the forward pass saved".into()));
    }
    let mut values = filled(view.numel(), 0.0);
    dense_as(view, DType::F64, |dense| {
        let sizes = dense.sizes();
        let strides = contiguous_strides(sizes);
        // SAFETY: the vector has the view's elements.
        let to = unsafe { View::new(values.as_mut_ptr().cast(), DType::F64, sizes, &strides) };
        copy::launch(&[to, *dense], &Attrs::default())
    })?;
    Ok(values)
}

/// The view's values, or `default` for each of `count` where it is absent.
fn values_or(view: &View<'_>, count: usize, default: f64) -> Result<Vec<f64>> {
    view.optional().map_or_else(|| Ok(filled(count, default)), values)
}

/// Writes values in C order, where the view is present.
fn store(view: &View<'_>, values: &[f64]) -> Result<()> {
    if !view.is_present() {
        return Ok(());
    }
    let strides = contiguous_strides(view.sizes());
    // SAFETY: the callers give a value an element; the copy only reads them.
    let from = unsafe { View::new(values.as_ptr().cast_mut().cast(), DType::F64, view.sizes(), &strides) };
    copy::launch(&[*view, from], &Attrs::default())
}

/// Refuses a present operand whose number of elements is not `count`.
fn expect_count(view: &View<'_>, name: &str, count: usize) -> Result<()> {
    match view.optional() {
        Some(view) if view.numel() != count => {
            Err(Error::Shape(format!("expected {name} with {count} elements, got {:?}", view.sizes())))
        }
        _ => Ok(()),
    }
}
