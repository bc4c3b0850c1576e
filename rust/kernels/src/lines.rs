//! Lines of a tensor as kernels want them: dense and in the type that is computed in. A line that
//! is so already is used in place; the others go through scratch memory.

use crate::convert::{Compute, Stored};
use crate::error::Result;
use crate::isa::Level;
use crate::loops::copy::Cast;
use crate::scratch::Scratch;
use crate::view::View;

/// One operand's lines, computed on in `T`.
pub struct Lines<T> {
    data: *mut u8,
    element: usize,
    stride: isize,
    length: usize,
    level: Level,
    /// None where lines are used in place; else the casts to and from `T`.
    casts: Option<[Cast; 2]>,
    types: std::marker::PhantomData<T>,
}

// SAFETY: an address and a shape; tasks read and write disjoint lines.
unsafe impl<T> Send for Lines<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Lines<T> {}

impl<T: Compute + Stored> Lines<T> {
    /// Lines of `length` elements at `stride`.
    pub fn new(view: &View<'_>, length: usize, stride: isize, level: Level) -> Result<Self> {
        let own = <T as Stored>::DTYPE;
        let in_place = view.dtype() == own && (stride == 1 || length <= 1);
        let casts = if in_place { None } else { Some([Cast::new(view.dtype(), own)?, Cast::new(own, view.dtype())?]) };
        let (data, element) = (view.bytes(), view.dtype().size());
        Ok(Self { data, element, stride, length, level, casts, types: std::marker::PhantomData })
    }

    fn at(&self, offset: isize) -> *mut u8 {
        self.data.wrapping_offset(offset * self.element as isize)
    }

    /// The line that starts at `offset`, gathered into `scratch` where it must be.
    ///
    /// # Safety
    /// The line is within the view, and `scratch` holds `length` elements.
    pub unsafe fn read(&self, offset: isize, scratch: *mut T) -> *const T {
        let Some([to, _]) = self.casts else {
            return self.at(offset).cast_const().cast();
        };
        // SAFETY: the caller's.
        unsafe { (to.run)(self.level, self.length, self.at(offset), self.stride, scratch.cast(), 1) };
        scratch
    }

    /// Where to compute the line that starts at `offset`; [`Lines::finish`] puts it in its place.
    pub fn target(&self, offset: isize, scratch: *mut T) -> *mut T {
        if self.casts.is_some() { scratch } else { self.at(offset).cast() }
    }

    /// # Safety
    /// As [`Lines::read`]; `scratch` is what the line was computed into where that was not in place.
    pub unsafe fn finish(&self, offset: isize, scratch: *const T) {
        if let Some([_, back]) = self.casts {
            // SAFETY: the caller's.
            unsafe { (back.run)(self.level, self.length, scratch.cast(), 1, self.at(offset), self.stride) };
        }
    }
}

/// Working memory for lines of `length`, each on its own cache lines.
pub struct LineScratch<T> {
    memory: Scratch<T>,
    pitch: usize,
}

impl<T: Copy> LineScratch<T> {
    pub fn new(lines: usize, length: usize) -> Self {
        let pitch = length.next_multiple_of(64);
        // Inside a task there is no way back but a panic, which `launch`'s caller turns into an error.
        let memory = Scratch::new(lines * pitch).expect("working memory for a task's lines");
        Self { memory, pitch }
    }

    pub fn line(&self, line: usize) -> *mut T {
        self.memory.ptr().wrapping_add(line * self.pitch)
    }
}
