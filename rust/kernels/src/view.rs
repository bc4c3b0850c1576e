//! What a kernel sees of a tensor: address, dtype, sizes, strides.

use crate::dtype::DType;
use crate::error::{Error, Result};

/// A strided view of host memory. Strides are in elements and may be zero (broadcast) or, for
/// inputs, overlapping. Views of one launch may alias one another (in-place ops), which is why a
/// kernel reads and writes through raw pointers.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: *mut u8,
    dtype: DType,
    present: bool,
    sizes: &'a [i64],
    strides: &'a [i64],
}

// SAFETY: a view is an address and a shape; kernels hand disjoint parts of it to threads.
unsafe impl Send for View<'_> {}
// SAFETY: as above; every write goes through a raw pointer under the kernel's own partition.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// # Safety
    /// For the view's life, every address it reaches from `data` by `sizes` and `strides` is valid
    /// for reads, and for writes where the op writes this operand.
    pub unsafe fn new(data: *mut u8, dtype: DType, sizes: &'a [i64], strides: &'a [i64]) -> Self {
        assert_eq!(sizes.len(), strides.len(), "sizes and strides differ in rank");
        Self { data, dtype, present: true, sizes, strides }
    }

    /// An operand that was not given (a convolution without bias).
    pub const fn absent() -> Self {
        Self { data: std::ptr::null_mut(), dtype: DType::U8, present: false, sizes: &[], strides: &[] }
    }

    pub const fn is_present(&self) -> bool {
        self.present
    }

    /// The view, or None where the operand was not given.
    pub fn optional(&self) -> Option<&Self> {
        self.present.then_some(self)
    }

    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    pub const fn sizes(&self) -> &'a [i64] {
        self.sizes
    }

    pub const fn strides(&self) -> &'a [i64] {
        self.strides
    }

    pub const fn rank(&self) -> usize {
        self.sizes.len()
    }

    pub fn size(&self, dim: usize) -> usize {
        self.sizes[dim] as usize
    }

    pub fn stride(&self, dim: usize) -> isize {
        self.strides[dim] as isize
    }

    pub fn numel(&self) -> usize {
        self.sizes.iter().product::<i64>() as usize
    }

    /// The first element, untyped. Null is legal where `numel()` is zero.
    pub const fn bytes(&self) -> *mut u8 {
        self.data
    }

    /// The first element; the type's size must be the dtype's.
    pub fn ptr<T>(&self) -> *mut T {
        debug_assert_eq!(size_of::<T>(), self.dtype.size());
        self.data.cast()
    }

    /// Dense in C order (dimensions of size one may have any stride).
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.sizes.iter().zip(self.strides).rev() {
            if size != 1 {
                if stride != expected && self.numel() != 0 {
                    return false;
                }
                expected *= size;
            }
        }
        true
    }

    /// The view moved by `offset` elements, with another shape over the same memory.
    ///
    /// # Safety
    /// What the new shape reaches is within what this view reaches.
    pub unsafe fn reshaped<'b>(&self, offset: isize, sizes: &'b [i64], strides: &'b [i64]) -> View<'b> {
        assert_eq!(sizes.len(), strides.len(), "sizes and strides differ in rank");
        let data = self.data.wrapping_offset(offset * self.dtype.size() as isize);
        View { data, dtype: self.dtype, present: true, sizes, strides }
    }

    /// Refuses a rank other than `rank`.
    pub fn expect_rank(&self, name: &str, rank: usize) -> Result<()> {
        if self.rank() == rank {
            return Ok(());
        }
        Err(Error::Shape(format!("expected {name} to be {rank}-D, got {}-D of shape {:?}", self.rank(), self.sizes)))
    }

    /// Refuses sizes other than `sizes`.
    pub fn expect_sizes(&self, name: &str, sizes: &[usize]) -> Result<()> {
        if self.sizes.iter().map(|&size| size as usize).eq(sizes.iter().copied()) {
            return Ok(());
        }
        Err(Error::Shape(format!("expected {name} of shape {sizes:?}, got {:?}", self.sizes)))
    }

    /// Refuses another dtype than `dtype`.
    pub fn expect_dtype(&self, name: &str, dtype: DType) -> Result<()> {
        if self.dtype == dtype {
            return Ok(());
        }
        Err(Error::Runtime(format!("expected {name} of dtype {dtype}, got {}", self.dtype)))
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.present {
            return formatter.write_str("None");
        }
        write!(formatter, "{}{:?}", self.dtype, self.sizes)?;
        if !self.is_contiguous() {
            write!(formatter, " strides {:?}", self.strides)?;
        }
        Ok(())
    }
}

/// The scalars of a launch, in the order that the op's row documents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attrs<'a> {
    pub ints: &'a [i64],
    pub floats: &'a [f64],
}

impl Attrs<'_> {
    pub fn int(&self, at: usize) -> i64 {
        self.ints[at]
    }

    pub fn float(&self, at: usize) -> f64 {
        self.floats[at]
    }

    pub fn flag(&self, at: usize) -> bool {
        self.ints[at] != 0
    }

    /// `count` non-negative ints from `at`.
    pub fn sizes<const COUNT: usize>(&self, at: usize) -> [usize; COUNT] {
        std::array::from_fn(|index| self.ints[at + index] as usize)
    }
}
