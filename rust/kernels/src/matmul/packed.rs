//! A right operand that many small products share: copied once into panels of whole register tiles,
//! each of which stays in the first-level cache while the rows of a product pass it.

use super::direct::Product;
use super::{Batch, Matrix, blocked};
use crate::convert::{Stored, StoredFloat};
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, Real, run_at};
use crate::loops::copy;
use crate::scratch::Scratch;
use crate::view::{Attrs, View};

/// Columns of a panel: three vectors of the widest f32 lanes, whole strips of every other.
const PANEL: usize = 48;

pub struct Packed<T> {
    panels: Scratch<T>,
    depth: usize,
    cols: usize,
}

impl<T: Real + Stored> Packed<T> {
    /// Packs a 2-D view, or its transpose.
    pub fn new<S: StoredFloat<Math = T>>(level: Level, view: &View<'_>, transposed: bool) -> Result<Self> {
        let in_place =
            if S::DTYPE == <T as Stored>::DTYPE { Batch::<T>::of(view).first.with_unit_stride() } else { None };
        let dense = if in_place.is_none() { Some(Scratch::<T>::new(view.numel())?) } else { None };
        let mut matrix = match (in_place, &dense) {
            (None, Some(dense)) => {
                let strides = [view.sizes()[1], 1];
                // SAFETY: the scratch holds this many elements.
                let target = unsafe { View::new(dense.ptr().cast(), <T as Stored>::DTYPE, view.sizes(), &strides) };
                copy::launch(&[target, *view], &Attrs::default())?;
                Batch::of(&target).first
            }
            (matrix, _) => matrix.unwrap_or_else(|| Batch::of(view).first),
        };
        if transposed {
            matrix = matrix.transposed();
        }
        let Matrix { rows: depth, cols, .. } = matrix;
        let panels = Scratch::new(depth * cols.next_multiple_of(PANEL))?;
        run_at(level, Pack { matrix, to: panels.ptr() });
        Ok(Self { panels, depth, cols })
    }

    /// `out = a @ self`, or `out += a @ self`, on this thread; the output's rows are dense.
    ///
    /// # Safety
    /// The matrices are valid for their shapes and strides, which fit: `a` has as many columns as this
    /// has rows, and `out` as many as this.
    pub unsafe fn multiply(&self, level: Level, out: &Matrix<T>, a: &Matrix<T>, accumulate: bool) {
        debug_assert!(a.cols == self.depth && out.cols == self.cols && out.rows == a.rows && out.col_stride == 1);
        run_at(level, Multiply { packed: self, out: *out, a: *a, accumulate });
    }
}

struct Pack<T> {
    matrix: Matrix<T>,
    to: *mut T,
}

impl<T: Real> Kernel<T> for Pack<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        let Self { matrix, to } = self;
        for col in (0..matrix.cols).step_by(PANEL) {
            let part = matrix.part(0, col, matrix.rows, PANEL.min(matrix.cols - col));
            // SAFETY: the matrix has a dense dimension; each panel has room for `PANEL` columns.
            unsafe { blocked::pack::<L>(part, to.add(col * matrix.rows), PANEL) };
        }
    }
}

struct Multiply<'a, T> {
    packed: &'a Packed<T>,
    out: Matrix<T>,
    a: Matrix<T>,
    accumulate: bool,
}

impl<T: Real> Kernel<T> for Multiply<'_, T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        let Self { packed: Packed { panels, depth, cols }, out, a, accumulate } = self;
        for col in (0..*cols).step_by(PANEL) {
            let count = PANEL.min(cols - col);
            let panel = Matrix {
                data: panels.ptr().wrapping_add(col * depth),
                rows: *depth,
                cols: count,
                row_stride: PANEL as isize,
                col_stride: 1,
            };
            let out = out.part(0, col, out.rows, count);
            // SAFETY: the caller's; the panel's rows are dense.
            unsafe { Product { out, a, b: panel, alpha: T::ONE, accumulate }.strips::<L>() };
        }
    }
}
