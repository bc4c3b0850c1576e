//! How a tensor lay in memory: its strides, and which tensors shared memory with it.
//!
//! A file holds every tensor dense, in C order, as safetensors asks. A tensor that lay otherwise, or
//! shared its memory with others, has a layout beside it, so that it can come back as it was.

use serde::{Deserialize, Serialize};

/// Memory that a layout may ask for, as a multiple of the bytes of the tensors in it. Without a bound
/// a file of a few bytes could ask for any amount.
pub const MOST_SPREAD: u64 = 64;

/// A tensor as a view of one of the file's storages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Which storage; tensors of one storage share memory.
    pub storage: u64,
    /// Where the first element lies, in bytes.
    pub offset: u64,
    /// Steps of each dimension, in elements.
    pub strides: Vec<u64>,
}

impl Layout {
    /// Bytes from the start of the storage to the end of the tensor. None where the strides do not
    /// fit the shape or a number overflows.
    pub(crate) fn end(&self, shape: &[u64], itemsize: u64) -> Option<u64> {
        if self.strides.len() != shape.len() || !self.offset.is_multiple_of(itemsize) {
            return None;
        }
        if shape.contains(&0) {
            return Some(self.offset);
        }
        let mut last = 0u64;
        for (&size, &stride) in shape.iter().zip(&self.strides) {
            // A tensor library's strides are signed; so is a size in bytes.
            if stride > i64::MAX as u64 {
                return None;
            }
            last = last.checked_add((size - 1).checked_mul(stride)?)?;
        }
        let end = last.checked_add(1)?.checked_mul(itemsize)?.checked_add(self.offset)?;
        (end <= i64::MAX as u64).then_some(end)
    }
}

/// What the storages of a list of tensors ask for: their sizes by their numbers. Gives the tensor whose
/// layout is unsound, or a storage that is spread too far.
pub(crate) fn storages<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [u64], u64, Option<&'a Layout>)>,
) -> Result<Vec<(u64, u64)>, String> {
    let mut found: std::collections::BTreeMap<u64, (u64, u64)> = Default::default();
    for (name, shape, itemsize, layout) in tensors {
        let Some(layout) = layout else { continue };
        let end = layout.end(shape, itemsize);
        let end = end.ok_or_else(|| format!("the layout of tensor '{name}' does not fit its shape {shape:?}"))?;
        let bytes = shape.iter().product::<u64>() * itemsize;
        let (extent, held) = found.entry(layout.storage).or_default();
        *extent = end.max(*extent);
        *held = held.saturating_add(bytes);
    }
    for (storage, (extent, held)) in &found {
        if *extent > held.saturating_mul(MOST_SPREAD) {
            return Err(format!("storage {storage} asks for {extent} bytes to hold {held}"));
        }
    }
    Ok(found.into_iter().map(|(storage, (extent, _))| (storage, extent)).collect())
}
