//! Convolutions whose taps are moved, each by an offset of its own at each position, and may be weighed by a mask: the
//! columns that their weights multiply, and the gradients of what the columns are made of.

use crate::error::{Error, Result};
use crate::threads;
use crate::view::{Attrs, View};
use crate::vision::plane::{Plane, Planes};
use crate::vision::{Own, match_own};

/// Positions whose taps are worked out before the channels share them.
const POSITIONS: usize = 64;
/// About what a tap of a position takes, for each channel.
const NANOSECONDS: usize = 4;

/// (height, width) each.
struct Taps<T> {
    kernel: [usize; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
    groups: usize,
    input: Planes<T>,
    offset: Planes<T>,
    mask: Option<Planes<T>>,
}

impl<T: Own> Taps<T> {
    /// Checks the columns, input, offset and mask.
    fn of([columns, input, offset, mask]: [&View<'_>; 4], attrs: &Attrs<'_>) -> Result<Self> {
        let [kernel, stride, padding, dilation] = [0, 2, 4, 6].map(|at| [attrs.int(at), attrs.int(at + 1)]);
        let groups = attrs.int(8);
        let is_legal = groups > 0
            && kernel.iter().chain(&stride).chain(&dilation).all(|&number| number > 0)
            && padding.iter().all(|&number| number >= 0);
        let channels = Planes::<T>::of("input", input)?.channels;
        if !is_legal || channels % groups as usize != 0 {
            return Err(Error::Runtime(format!("a convolution of {channels} channels has no taps {:?}", attrs.ints)));
        }
        let (kernel, groups) = (kernel.map(|size| size as usize), groups as usize);
        let taps = kernel[0] * kernel[1];
        offset.expect_rank("offset", 4)?;
        let (batch, positions) = (input.size(0), [offset.size(2), offset.size(3)]);
        let expected = |channels: usize| [batch, channels, positions[0], positions[1]];
        offset.expect_sizes("offset", &expected(2 * groups * taps))?;
        columns.expect_sizes("columns", &[batch, channels * taps, positions[0] * positions[1]])?;
        for (name, view) in [("columns", columns), ("offset", offset)] {
            view.expect_dtype(name, input.dtype())?;
        }
        if let Some(mask) = mask.optional() {
            mask.expect_dtype("mask", input.dtype())?;
            mask.expect_sizes("mask", &expected(groups * taps))?;
        }
        Ok(Self {
            kernel,
            stride,
            padding,
            dilation,
            groups,
            input: Planes::of("input", input)?,
            offset: Planes::of("offset", offset)?,
            mask: mask.optional().map(|mask| Planes::of("mask", mask)).transpose()?,
        })
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn positions(&self) -> usize {
        self.offset.size[0] * self.offset.size[1]
    }

    /// The channels of a group.
    fn channels(&self, group: usize) -> std::ops::Range<usize> {
        let share = self.input.channels / self.groups;
        group * share..(group + 1) * share
    }

    /// Calls `body(image, group, tap, positions)`, in parallel.
    fn each_group(&self, body: impl Fn(usize, usize, usize, std::ops::Range<usize>) + Sync) {
        let (taps, positions) = (self.taps(), self.positions());
        let parts = positions.div_ceil(POSITIONS);
        let rows = self.input.batch * self.groups * taps;
        let work = self.input.batch * self.input.channels * taps * positions * NANOSECONDS;
        threads::parallel(rows * parts, work, |task| {
            let (row, first) = (task / parts, task % parts * POSITIONS);
            let (image, group, tap) = (row / taps / self.groups, row / taps % self.groups, row % taps);
            body(image, group, tap, first..(first + POSITIONS).min(positions));
        });
    }

    fn pixel(&self, position: usize) -> [usize; 2] {
        [position / self.offset.size[1], position % self.offset.size[1]]
    }

    /// Where a tap lies at a position, and what the mask says.
    ///
    /// # Safety
    /// The image, group, tap and position are the tensors'.
    unsafe fn place(&self, image: usize, group: usize, tap: usize, position: usize) -> Place<T> {
        let at = self.pixel(position);
        let channel = group * self.taps() + tap;
        let steps = [tap / self.kernel[1], tap % self.kernel[1]];
        // SAFETY: the caller's.
        unsafe {
            let place = std::array::from_fn(|dim| {
                let start = at[dim] as i64 * self.stride[dim] - self.padding[dim];
                let moved = self.offset.plane(image, 2 * channel + dim).get(at);
                T::whole(start + steps[dim] as i64 * self.dilation[dim]) + moved
            });
            let mask = self.mask.map_or(T::whole(1), |mask| mask.plane(image, channel).get(at));
            Place { place, mask, low: place.map(|place: T| place.to_f64().floor() as i64) }
        }
    }
}

/// A tap's place between pixels.
#[derive(Clone, Copy)]
struct Place<T> {
    place: [T; 2],
    mask: T,
    /// The pixel above and left of it, which may lie outside.
    low: [i64; 2],
}

impl<T: Own> Place<T> {
    /// The value of the pixel `step` after the first one, zero outside of the image.
    ///
    /// # Safety
    /// The plane has this size.
    #[inline(always)]
    unsafe fn value(&self, plane: Plane<T>, size: [usize; 2], step: [i64; 2]) -> T {
        let pixel = [0, 1].map(|dim| usize::try_from(self.low[dim].saturating_add(step[dim])).unwrap_or(usize::MAX));
        if pixel[0] < size[0] && pixel[1] < size[1] {
            // SAFETY: the pixel is the plane's.
            unsafe { plane.get(pixel) }
        } else {
            T::zero()
        }
    }

    /// The four pixels around it.
    ///
    /// # Safety
    /// As for `value`.
    #[inline(always)]
    unsafe fn values(&self, plane: Plane<T>, size: [usize; 2]) -> [T; 4] {
        // SAFETY: the caller's.
        [[0, 0], [0, 1], [1, 0], [1, 1]].map(|step| unsafe { self.value(plane, size, step) })
    }

    fn past(&self, dim: usize) -> T {
        self.place[dim] - T::whole(self.low[dim])
    }

    /// The value at the place; zero a pixel or more outside of the image, where NaN is as well.
    ///
    /// # Safety
    /// As for `value`.
    #[inline(always)]
    unsafe fn sample(&self, plane: Plane<T>, size: [usize; 2]) -> T {
        let inside = |dim: usize| {
            let place = self.place[dim].to_f64();
            place > -1.0 && place < size[dim] as f64
        };
        if !inside(0) || !inside(1) {
            return T::zero();
        }
        let [down, across] = [self.past(0), self.past(1)];
        let [up, back] = [T::whole(1) - down, T::whole(1) - across];
        // SAFETY: the caller's.
        let [a, b, c, d] = unsafe { self.values(plane, size) };
        up * back * a + up * across * b + down * back * c + down * across * d
    }

    /// How the value moves with the place, down and across.
    ///
    /// # Safety
    /// As for `value`.
    #[inline(always)]
    unsafe fn slopes(&self, plane: Plane<T>, size: [usize; 2]) -> [T; 2] {
        let [down, across] = [self.past(0), self.past(1)];
        // SAFETY: the caller's.
        let [a, b, c, d] = unsafe { self.values(plane, size) };
        let rest = |part: T| T::whole(1) - part;
        [across * (d - b) + rest(across) * (c - a), down * (d - c) + rest(down) * (b - a)]
    }

    /// Calls `body(pixel, part)` for the pixels of the image that it lies less than a pixel from.
    #[inline(always)]
    fn spread(&self, size: [usize; 2], mut body: impl FnMut([usize; 2], T)) {
        let distance = |dim: usize, pixel: i64| {
            let apart = self.place[dim] - T::whole(pixel);
            if apart < T::zero() { T::zero() - apart } else { apart }
        };
        let one = T::whole(1);
        for down in [0, 1] {
            for across in [0, 1] {
                let pixel = [self.low[0].saturating_add(down), self.low[1].saturating_add(across)];
                let [y, x] = [distance(0, pixel[0]), distance(1, pixel[1])];
                let inside = |dim: usize| (0..size[dim] as i64).contains(&pixel[dim]);
                if inside(0) && inside(1) && y < one && x < one {
                    body(pixel.map(|at| at as usize), (one - y) * (one - x));
                }
            }
        }
    }
}

/// A row of the columns.
struct Columns<'a, 'b>(&'b View<'a>);

impl Columns<'_, '_> {
    fn at<T>(&self, image: usize, row: usize, position: usize) -> *mut T {
        let [along, down, across] = [0, 1, 2].map(|dim| self.0.stride(dim));
        let offset = image as isize * along + row as isize * down + position as isize * across;
        self.0.ptr::<T>().wrapping_offset(offset)
    }
}

/// `[columns, input, offset, mask?]`: `[batch, channels * taps, positions]`, `[batch, channels, ..]`, `[batch, groups *
/// taps * 2 (down, across), ..]`, `[batch, groups * taps, ..]`; ints `[kernel, stride, padding, dilation ((height,
/// width) each), groups]`.
pub fn deform_columns(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [columns, input, offset, mask] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    match_own!(input.dtype(), T => {
        let taps = Taps::<T>::of([columns, input, offset, mask], attrs)?;
        let size = taps.input.size;
        let columns = Columns(columns);
        taps.each_group(|image, group, tap, positions| {
            let first = positions.start;
            // SAFETY: the tensors have these places, and rows and positions are this task's.
            let places: [Place<T>; POSITIONS] = std::array::from_fn(|at| unsafe {
                taps.place(image, group, tap, (first + at).min(positions.end - 1))
            });
            for channel in taps.channels(group) {
                let plane = taps.input.plane(image, channel);
                for position in positions.clone() {
                    let place = &places[position - first];
                    // SAFETY: as above.
                    unsafe {
                        let value = place.mask * place.sample(plane, size);
                        *columns.at::<T>(image, channel * taps.taps() + tap, position) = value;
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[grad_input, grad_offset, grad_mask?, grad_columns, input, offset, mask?]`, ints as `deform_columns`'.
pub fn deform_columns_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_offset, grad_mask, grad_columns, input, offset, mask] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    for (name, view, like) in [("grad_input", grad_input, input), ("grad_offset", grad_offset, offset)]
        .into_iter()
        .chain(mask.optional().map(|mask| ("grad_mask", grad_mask, mask)))
    {
        view.expect_dtype(name, input.dtype())?;
        if view.sizes() != like.sizes() {
            return Err(Error::Shape(format!("expected {name} of {:?}, got {:?}", like.sizes(), view.sizes())));
        }
    }
    match_own!(input.dtype(), T => {
        let taps = Taps::<T>::of([grad_columns, input, offset, mask], attrs)?;
        let (size, columns) = (taps.input.size, Columns(grad_columns));
        let grads = [Planes::<T>::of("grad_input", grad_input)?, Planes::<T>::of("grad_offset", grad_offset)?];
        let grad_mask = mask.optional().map(|_| Planes::<T>::of("grad_mask", grad_mask)).transpose()?;
        // An offset and its mask move all channels of their group.
        taps.each_group(|image, group, tap, positions| {
            for position in positions {
                // SAFETY: the tensors have these places; the tap's gradients at this position are this task's.
                unsafe {
                    let place = taps.place(image, group, tap, position);
                    let (mut moves, mut weighs) = ([T::zero(); 2], T::zero());
                    for channel in taps.channels(group) {
                        let plane = taps.input.plane(image, channel);
                        let grad: T = *columns.at(image, channel * taps.taps() + tap, position);
                        let slopes = place.slopes(plane, size);
                        moves = std::array::from_fn(|dim| moves[dim] + place.mask * slopes[dim] * grad);
                        if grad_mask.is_some() {
                            weighs += grad * place.sample(plane, size);
                        }
                    }
                    let (at, row) = (taps.pixel(position), group * taps.taps() + tap);
                    for (dim, moved) in moves.into_iter().enumerate() {
                        grads[1].plane(image, 2 * row + dim).put(at, moved);
                    }
                    if let Some(grad_mask) = grad_mask {
                        grad_mask.plane(image, row).put(at, weighs);
                    }
                }
            }
        });
        // A plane of the input is one task's.
        let channels = taps.input.channels;
        let share = channels / taps.groups;
        let work = taps.input.batch * channels * taps.taps() * taps.positions() * NANOSECONDS;
        threads::parallel(taps.input.batch * channels, work + grad_input.numel(), |task| {
            let (image, channel) = (task / channels, task % channels);
            let plane = grads[0].plane(image, channel);
            // SAFETY: the tensors have these places, and the plane is this task's.
            unsafe {
                plane.fill(size, T::zero());
                for tap in 0..taps.taps() {
                    for position in 0..taps.positions() {
                        let place = taps.place(image, channel / share, tap, position);
                        let grad: T = *columns.at(image, channel * taps.taps() + tap, position);
                        place.spread(size, |pixel, part| plane.add(pixel, place.mask * part * grad));
                    }
                }
            }
        });
    });
    Ok(())
}
