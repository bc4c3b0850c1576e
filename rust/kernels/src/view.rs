//! What a kernel sees of a tensor: address, dtype, sizes, strides.

use std::marker::PhantomData;
use std::mem::offset_of;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// A strided view of host memory. Strides are in elements and may be zero (broadcast) or, for
/// inputs, overlapping. Views of one launch may alias one another (in-place ops), which is why a
/// kernel reads and writes through raw pointers. Its layout is that of the bridge's operands, so that
/// a launch hands them over as they are.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct View<'a> {
    data: *mut u8,
    sizes: *const i64,
    strides: *const i64,
    storage: usize,
    storage_bytes: usize,
    rank: u32,
    dtype: DType,
    present: bool,
    /// PyTorch's code of the tensor's own dtype, for messages: a kernel that only moves elements has
    /// `dtype` be an integer of their size.
    named: u8,
    life: PhantomData<&'a [i64]>,
}

// SAFETY: a view is an address and a shape; kernels hand disjoint parts of it to threads.
unsafe impl Send for View<'_> {}
// SAFETY: as above; every write goes through a raw pointer under the kernel's own partition.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// Where its fields lie: address, sizes, strides, storage, its bytes, rank, dtype, presence, dtype in messages.
    pub const LAYOUT: [usize; 9] = [
        offset_of!(Self, data),
        offset_of!(Self, sizes),
        offset_of!(Self, strides),
        offset_of!(Self, storage),
        offset_of!(Self, storage_bytes),
        offset_of!(Self, rank),
        offset_of!(Self, dtype),
        offset_of!(Self, present),
        offset_of!(Self, named),
    ];

    /// # Safety
    /// For the view's life, every address it reaches from `data` by `sizes` and `strides` is valid
    /// for reads, and for writes where the op writes this operand.
    pub unsafe fn new(data: *mut u8, dtype: DType, sizes: &'a [i64], strides: &'a [i64]) -> Self {
        assert_eq!(sizes.len(), strides.len(), "sizes and strides differ in rank");
        let rank = sizes.len() as u32;
        let (sizes, strides) = (sizes.as_ptr(), strides.as_ptr());
        let (storage, storage_bytes) = (0, usize::MAX);
        let named = dtype as u8;
        Self { data, sizes, strides, storage, storage_bytes, rank, dtype, present: true, named, life: PhantomData }
    }

    /// An operand that was not given (a convolution without bias).
    pub const fn absent() -> Self {
        Self {
            data: std::ptr::null_mut(),
            sizes: std::ptr::null(),
            strides: std::ptr::null(),
            storage: 0,
            storage_bytes: 0,
            rank: 0,
            dtype: DType::U8,
            present: false,
            named: DType::U8 as u8,
            life: PhantomData,
        }
    }

    /// The view with the bounds of its memory, for [`crate::validate`]; without, none are known.
    pub const fn within(self, address: usize, bytes: usize) -> Self {
        Self { storage: address, storage_bytes: bytes, ..self }
    }

    /// The first address of the memory that it is a view of, and the number of bytes there.
    #[inline]
    pub const fn storage(&self) -> (usize, usize) {
        (self.storage, self.storage_bytes)
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

    #[inline]
    pub const fn sizes(&self) -> &'a [i64] {
        self.dims(self.sizes)
    }

    #[inline]
    pub const fn strides(&self) -> &'a [i64] {
        self.dims(self.strides)
    }

    /// A scalar's arrays may be null.
    #[inline]
    const fn dims(&self, first: *const i64) -> &'a [i64] {
        // SAFETY: both arrays have `rank` elements for the view's life, as who made it promised.
        if self.rank == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, self.rank as usize) } }
    }

    #[inline]
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    #[inline]
    pub fn size(&self, dim: usize) -> usize {
        self.sizes()[dim] as usize
    }

    #[inline]
    pub fn stride(&self, dim: usize) -> isize {
        self.strides()[dim] as isize
    }

    #[inline]
    pub fn numel(&self) -> usize {
        self.sizes().iter().product::<i64>() as usize
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
        for (&size, &stride) in self.sizes().iter().zip(self.strides()).rev() {
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
        let data = self.data.wrapping_offset(offset * self.dtype.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { View::new(data, self.dtype, sizes, strides) }
    }

    /// Refuses a rank other than `rank`.
    pub fn expect_rank(&self, name: &str, rank: usize) -> Result<()> {
        if self.rank() == rank {
            return Ok(());
        }
        Err(Error::Shape(format!("expected {name} to be {rank}-D, got {}-D of shape {:?}", self.rank(), self.sizes())))
    }

    /// Refuses sizes other than `sizes`.
    pub fn expect_sizes(&self, name: &str, sizes: &[usize]) -> Result<()> {
        if self.present && self.sizes().iter().map(|&size| size as usize).eq(sizes.iter().copied()) {
            return Ok(());
        }
        Err(Error::Shape(format!("expected {name} of shape {sizes:?}, got {:?}", self.sizes())))
    }

    /// Refuses anything but one element of `dtype`: what is read or written where it begins.
    pub fn expect_one(&self, name: &str, dtype: DType) -> Result<()> {
        self.expect_dtype(name, dtype)?;
        if self.present && self.numel() == 1 {
            return Ok(());
        }
        Err(Error::Shape(format!("expected {name} to have one element, got {self:?}")))
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
        write!(formatter, "{}{:?}", crate::dtype::name_of_code(self.named), self.sizes())?;
        if !self.is_contiguous() {
            write!(formatter, " strides {:?}", self.strides())?;
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
