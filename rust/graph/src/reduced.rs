//! Runs a reduction that computes its elements: of all that there are, or of some rows.

use rustorch_kernels::error::Result;
use rustorch_kernels::view::{Attrs, View};
use smallvec::SmallVec;

use crate::fused::{Bases, Computed};
use crate::program::Reduced;
use crate::run;

/// Elements of the sink, by the sizes of what is reduced.
#[derive(Clone, Copy)]
pub struct Extent<'a> {
    /// The place of the first in the sink.
    pub first: usize,
    pub sizes: &'a [i64],
}

impl Reduced {
    /// # Safety
    /// `bases` are the addresses of the fused kernel's operands, the sink's where that has memory; they and the
    /// results are valid for these elements.
    pub unsafe fn run<'a>(
        &'a self,
        results: SmallVec<[View<'a>; 8]>,
        attrs: &Attrs<'_>,
        bases: &Bases,
        is_stored: bool,
        Extent { first, sizes }: Extent<'a>,
    ) -> Result<()> {
        let ready = run::ready(&self.fused)?;
        // SAFETY: the caller's promise.
        let source = unsafe { Computed::new(ready, bases, self.sink, is_stored, first) };
        // Where nothing is stored, the address is only counted from.
        let data = if is_stored {
            bases[self.sink].wrapping_add(first * self.input.dtype.size())
        } else {
            std::ptr::without_provenance_mut(64)
        };
        let mut views = results;
        // SAFETY: the reduction reads its input after the source has computed it, or not at all.
        views.push(unsafe { View::new(data, self.input.dtype, sizes, &self.input.strides) });
        (self.launch)(&views, attrs, Some(&source))?;
        source.finish()
    }
}
