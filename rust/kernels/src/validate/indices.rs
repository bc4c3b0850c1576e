//! The range of what index tensors hold. Each op says what is legal and words its own refusal, as
//! PyTorch's ops do; what is legal is decided here, before the op writes anything.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::loops::iterate::Space;
use crate::threads;
use crate::view::View;

/// Indices of a task.
const TASK: usize = 32 * 1024;

/// What an index may be.
#[derive(Clone, Copy)]
pub struct Legal {
    size: i64,
    wrapped_by: i64,
    ignored: Option<i64>,
}

impl Legal {
    /// The places `0..size`.
    pub const fn below(size: i64) -> Self {
        Self { size, wrapped_by: 0, ignored: None }
    }

    /// Negative indices count from the end.
    pub const fn wrapping(self) -> Self {
        Self { wrapped_by: self.size, ..self }
    }

    /// A value that stands for no place.
    pub const fn ignoring(self, value: i64) -> Self {
        Self { ignored: Some(value), ..self }
    }

    /// The place that an index means; any number where it is not legal.
    #[inline(always)]
    pub const fn place(self, index: i64) -> i64 {
        if index < 0 { index.wrapping_add(self.wrapped_by) } else { index }
    }

    #[inline(always)]
    pub fn allows(self, index: i64) -> bool {
        (0..self.size).contains(&self.place(index)) || self.ignored == Some(index)
    }

    /// Refuses the first of `indices` that is not legal.
    pub fn check_all(self, indices: impl IntoIterator<Item = i64>, refuse: impl Fn(i64) -> Error) -> Result<()> {
        match indices.into_iter().find(|&index| !self.allows(index)) {
            None => Ok(()),
            Some(index) => Err(refuse(index)),
        }
    }

    /// Refuses the first element of `indices`, of int32 or int64, that is not legal.
    pub fn check(self, indices: &View<'_>, refuse: impl Fn(i64) -> Error) -> Result<()> {
        match indices.dtype() {
            DType::I64 => self.check_typed::<i64>(indices, refuse),
            DType::I32 => self.check_typed::<i32>(indices, refuse),
            other => Err(wrong_dtype(other)),
        }
    }

    fn check_typed<T: Copy + Into<i64>>(self, indices: &View<'_>, refuse: impl Fn(i64) -> Error) -> Result<()> {
        let space = Space::of([indices]);
        let stride = space.inner().strides[0];
        // SAFETY: the space is the view's.
        let at = |offset: isize| unsafe { *indices.ptr::<T>().offset(offset) }.into();
        let refused = AtomicBool::new(false);
        threads::parallel_chunks(space.numel, TASK, space.numel, |range| {
            let mut bad = false;
            space.rows(range.start, range.end, |[start], count| {
                (0..count as isize).for_each(|step| bad |= !self.allows(at(start + step * stride)));
            });
            if bad {
                refused.store(true, Ordering::Relaxed);
            }
        });
        if !refused.into_inner() {
            return Ok(());
        }
        // The error names the first, whichever task met one.
        let mut first = None;
        space.rows(0, space.numel, |[start], count| {
            if first.is_none() {
                first = (0..count as isize).map(|step| at(start + step * stride)).find(|&index| !self.allows(index));
            }
        });
        Err(refuse(first.unwrap_or_default()))
    }
}

pub fn wrong_dtype(dtype: DType) -> Error {
    Error::Runtime(format!("expected an index of dtype int32 or int64, got {dtype}"))
}
