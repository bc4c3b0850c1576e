//! Max pooling along rows, for the windows that networks have: two or three pixels wide, one or two
//! apart. Outputs whose window lies within the row are computed in lanes of a fixed number; the others
//! as any window's.

use std::ops::Range;

use super::Images;
use super::max::MaxStrip;
use super::strips::{Strip, Window};
use crate::convert::Compute;
use crate::dtype::DType;
use crate::index::Arithmetic;
use crate::lanes::Vectorised;
use crate::value::Value;
use crate::view::View;

/// Outputs at a row's end that are computed together.
const EDGE: usize = 2;

/// Whether rows are pooled so: of floats, dense in all three operands.
pub(super) fn suits(window: &Window, dtype: DType, operands: [&Images; 3]) -> bool {
    let usual = matches!((window.kernel[1], window.stride[1]), (2, 2) | (3, 1) | (3, 2));
    let floats = matches!(dtype, DType::F32 | DType::F64 | DType::BF16 | DType::F16);
    usual && floats && window.dilation[1] == 1 && operands.iter().all(|images| images.strides[3] == 1)
}

/// Some rows of the outputs, counted through images and channels.
pub(super) struct MaxRows<'a, 'v> {
    pub rows: Range<usize>,
    pub window: &'a Window,
    pub out: (&'a View<'v>, &'a Images),
    pub indices: (&'a View<'v>, &'a Images),
    pub input: (&'a View<'v>, &'a Images),
}

/// As a task for elements of `S`.
pub(super) struct Of<'a, 'v, S>(pub MaxRows<'a, 'v>, pub std::marker::PhantomData<S>);

impl<S: Arithmetic> Vectorised for Of<'_, '_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let MaxRows { rows, window, out, indices, input } = self.0;
        let [_, channels, height, width] = out.1.sizes;
        let columns = input.1.sizes[3];
        let [across, padding] = [window.stride[1], window.padding[1]];
        // Outputs whose window begins and ends within the row.
        let first = padding.div_ceil(across).min(width);
        let last = match (columns + padding).checked_sub(window.kernel[1]) {
            Some(room) => (room / across + 1).clamp(first, width),
            None => first,
        };
        for row in rows {
            let at = [row / height / channels, row / height % channels, row % height, 0];
            let to = out.0.ptr::<S>().wrapping_offset(out.1.offset(at));
            let places = indices.0.ptr::<i64>().wrapping_offset(indices.1.offset(at));
            // Most rows have one such output, or none.
            for start in (0..first).step_by(EDGE).chain((last..width).step_by(EDGE)) {
                let end = if start < first { first } else { width };
                let task = MaxStrip::<S> {
                    strip: Strip {
                        at: [at[0], at[1], at[2], start],
                        count: EDGE.min(end - start),
                        along_channels: false,
                    },
                    window,
                    inputs: input.1,
                    input: input.0.ptr(),
                    out: to.wrapping_add(start),
                    out_lane: 1,
                    indices: places.wrapping_add(start),
                    indices_lane: 1,
                };
                // SAFETY: the strip lies within the outputs, its taps within the input.
                unsafe { task.taps::<EDGE>() };
            }
            if first == last {
                continue;
            }
            // The window's rows that lie within the image.
            let start = (at[2] * window.stride[0]) as isize - window.padding[0] as isize;
            let apart = window.dilation[0];
            let skipped = if start < 0 { start.unsigned_abs().div_ceil(apart) } else { 0 };
            let begin = start + (skipped * apart) as isize;
            let inside = (input.1.sizes[2] as isize - begin).max(0) as usize;
            let count = window.kernel[0].saturating_sub(skipped).min(inside.div_ceil(apart));
            if count == 0 {
                continue;
            }
            let line = Line::<S> {
                from: input
                    .0
                    .ptr::<S>()
                    .wrapping_offset(input.1.offset([at[0], at[1], 0, 0]) + begin * input.1.strides[2])
                    .wrapping_add(first * across - padding),
                to: to.wrapping_add(first),
                places: places.wrapping_add(first),
                count: last - first,
                rows: count,
                row_stride: apart as isize * input.1.strides[2],
                position: begin as i32 * columns as i32 + (first * across - padding) as i32,
                row_step: (apart * columns) as i32,
            };
            // SAFETY: the line's windows lie within the input, its outputs within both others.
            unsafe {
                match (window.kernel[1], across) {
                    (2, _) => line.run::<2, 2>(),
                    (_, 1) => line.run::<3, 1>(),
                    _ => line.run::<3, 2>(),
                }
            }
        }
    }
}

/// A row of outputs with their windows within the image's rows.
struct Line<S> {
    /// The first pixel of the first window.
    from: *const S,
    to: *mut S,
    places: *mut i64,
    count: usize,
    /// Rows of a window, and the elements between them.
    rows: usize,
    row_stride: isize,
    /// The first pixel's number, and from row to row.
    position: i32,
    row_step: i32,
}

impl<S: Arithmetic> Line<S> {
    /// # Safety
    /// `count` windows of `KERNEL` columns, `STRIDE` apart, lie within the input; the outputs are valid.
    #[inline(always)]
    unsafe fn run<const KERNEL: usize, const STRIDE: usize>(&self) {
        // SAFETY: the caller's.
        unsafe {
            match self.count {
                16.. => self.chunks::<KERNEL, STRIDE, 16>(),
                8.. => self.chunks::<KERNEL, STRIDE, 8>(),
                4.. => self.chunks::<KERNEL, STRIDE, 4>(),
                _ => self.chunks::<KERNEL, STRIDE, 1>(),
            }
        }
    }

    /// The last chunk begins earlier where it would end outside: it gives the same once more.
    ///
    /// # Safety
    /// As for `run`, with at least `LANES` windows.
    #[inline(always)]
    unsafe fn chunks<const KERNEL: usize, const STRIDE: usize, const LANES: usize>(&self) {
        for at in (0..self.count).step_by(LANES) {
            // SAFETY: the caller's.
            unsafe { self.chunk::<KERNEL, STRIDE, LANES>(at.min(self.count - LANES)) };
        }
    }

    /// # Safety
    /// As for `run`, with `LANES` windows from `at` on.
    #[inline(always)]
    unsafe fn chunk<const KERNEL: usize, const STRIDE: usize, const LANES: usize>(&self, at: usize) {
        let from = self.from.wrapping_add(at * STRIDE);
        // SAFETY: the caller's.
        unsafe {
            // The first tap is the best so far, whatever it is.
            let mut best = taps_of::<S, STRIDE, LANES>(from, 0);
            let mut place = [0i32; LANES];
            for row in 0..self.rows {
                let from = from.wrapping_offset(row as isize * self.row_stride);
                for tap in 0..KERNEL {
                    let values = taps_of::<S, STRIDE, LANES>(from, tap);
                    let here = row as i32 * self.row_step + tap as i32;
                    for lane in 0..LANES {
                        let better = (values[lane] > best[lane]) | values[lane].is_nan();
                        best[lane] = if better { values[lane] } else { best[lane] };
                        place[lane] = if better { here } else { place[lane] };
                    }
                }
            }
            let first = self.position + (at * STRIDE) as i32;
            let mut places = [0i64; LANES];
            for lane in 0..LANES {
                places[lane] = i64::from(place[lane] + first + (lane * STRIDE) as i32);
            }
            self.to.wrapping_add(at).cast::<[S; LANES]>().write_unaligned(best.map(Compute::save));
            self.places.wrapping_add(at).cast::<[i64; LANES]>().write_unaligned(places);
        }
    }
}

/// A tap of neighbouring windows. For a stride of two, pairs of pixels are read, of which the window has
/// both: no pixel beyond it is touched.
///
/// # Safety
/// The windows' pixels are valid for reading, at least two columns of each.
#[inline(always)]
unsafe fn taps_of<S: Arithmetic, const STRIDE: usize, const LANES: usize>(
    from: *const S,
    tap: usize,
) -> [S::Math; LANES] {
    // SAFETY: the caller's.
    unsafe {
        if STRIDE == 1 {
            return from.add(tap).cast::<[S; LANES]>().read_unaligned().map(S::Math::load);
        }
        let (begin, half) = if tap == 0 { (0, 0) } else { (tap - 1, 1) };
        let pairs = from.add(begin).cast::<[[S; 2]; LANES]>().read_unaligned();
        pairs.map(|pair| S::Math::load(pair[half]))
    }
}
