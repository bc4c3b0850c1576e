//! Index tensors made into element offsets.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Dims, contiguous_strides};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::loops::iterate::Space;
use crate::threads;
use crate::validate::indices::{Legal, wrong_dtype};
use crate::view::View;

/// Indices of a task.
const TASK: usize = 32 * 1024;

/// What an op does with indices outside `0..size`.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    /// Negative indices count from the end.
    pub wraps: bool,
    /// The refusal is a RuntimeError (gather and scatter), else an IndexError.
    pub runtime_error: bool,
}

impl Policy {
    pub const WRAP: Self = Self { wraps: true, runtime_error: false };
    pub const STRICT: Self = Self { wraps: false, runtime_error: false };
    pub const STRICT_RUNTIME: Self = Self { wraps: false, runtime_error: true };

    fn legal(self, size: i64) -> Legal {
        if self.wraps { Legal::below(size).wrapping() } else { Legal::below(size) }
    }

    fn refuse(self, index: i64, dim: usize, size: i64) -> Error {
        let error = Error::Index { index, dim, size };
        if self.runtime_error { Error::Runtime(error.to_string()) } else { error }
    }
}

/// One index tensor and the dimension that it steers.
pub(super) struct Axis<'a> {
    pub index: View<'a>,
    pub dim: usize,
    pub size: i64,
    pub stride: isize,
}

impl<'a> Axis<'a> {
    pub fn new(index: &View<'a>, steered: &View<'_>, dim: usize) -> Self {
        Self { index: *index, dim, size: steered.sizes()[dim], stride: steered.stride(dim) }
    }
}

/// The sum over `axes` of index times stride, dense in C order over `sizes`, to which every index
/// tensor broadcasts.
pub(super) fn offsets(axes: &[Axis<'_>], sizes: &[i64], policy: Policy) -> Result<Vec<isize>> {
    let numel = sizes.iter().product::<i64>() as usize;
    let mut offsets = filled(numel, 0);
    for axis in axes {
        match axis.index.dtype() {
            DType::I64 => add_axis::<i64>(&mut offsets, axis, sizes, policy)?,
            DType::I32 => add_axis::<i32>(&mut offsets, axis, sizes, policy)?,
            other => return Err(wrong_dtype(other)),
        }
    }
    Ok(offsets)
}

fn add_axis<T: Copy + Into<i64> + Sync>(
    offsets: &mut [isize],
    axis: &Axis<'_>,
    sizes: &[i64],
    policy: Policy,
) -> Result<()> {
    struct Target(*mut isize);
    // SAFETY: tasks write disjoint ranges.
    unsafe impl Sync for Target {}
    impl Target {
        fn at(&self, index: isize) -> *mut isize {
            self.0.wrapping_offset(index)
        }
    }
    let strides = broadcast_strides(&axis.index, sizes)?;
    let space = Space::new(sizes, [&contiguous_strides(sizes), &strides]);
    let inner = space.inner().strides;
    let target = Target(offsets.as_mut_ptr());
    let index = axis.index;
    let refused = AtomicBool::new(false);
    let legal = policy.legal(axis.size);
    threads::parallel_chunks(space.numel, TASK, space.numel, |range| {
        let mut bad = false;
        space.rows(range.start, range.end, |[to, from], count| {
            for at in 0..count as isize {
                // SAFETY: the row is within the index view and within the dense offsets.
                unsafe {
                    let value = (*index.ptr::<T>().offset(from + at * inner[1])).into();
                    bad |= !legal.allows(value);
                    let target = target.at(to + at * inner[0]);
                    *target = (*target).wrapping_add((legal.place(value) as isize).wrapping_mul(axis.stride));
                }
            }
        });
        if bad {
            refused.store(true, Ordering::Relaxed);
        }
    });
    if refused.into_inner() {
        legal.check(&index, |value| policy.refuse(value, axis.dim, axis.size))?;
    }
    Ok(())
}

/// The strides of `view` broadcast to `sizes`.
pub(super) fn broadcast_strides(view: &View<'_>, sizes: &[i64]) -> Result<Dims> {
    let refuse = || {
        Error::Shape(format!(
            "shape mismatch: shape {:?} cannot be broadcast to indexing result {sizes:?}",
            view.sizes()
        ))
    };
    let added = sizes.len().checked_sub(view.rank()).ok_or_else(refuse)?;
    let mut strides = Dims::from_elem(0, added);
    for (dim, &size) in view.sizes().iter().enumerate() {
        if size == sizes[added + dim] {
            strides.push(view.strides()[dim]);
        } else if size == 1 {
            strides.push(0);
        } else {
            return Err(refuse());
        }
    }
    Ok(strides)
}
