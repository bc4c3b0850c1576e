//! Sampling images at the positions of a grid, in two and three dimensions.
//!
//! For each image the grid is first made into taps: the pixels that a position reads, and their
//! weights. Channels then share them, forward and backward.

use crate::convert::{Compute, StoredFloat};
use crate::element::Float;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::match_float;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Positions of a task.
const TASK: usize = 1024;
/// A tap that lies outside of the image.
const OUTSIDE: i64 = -1;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Linear,
    Nearest,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

#[derive(Clone, Copy)]
struct Rule {
    mode: Mode,
    padding: Padding,
    align_corners: bool,
    lost: Lost,
}

/// What a coordinate that is nowhere (NaN, what infinities become) stands for, as on the CPU.
#[derive(Clone, Copy, PartialEq)]
enum Lost {
    /// Of two dimensions: the first pixel where the padding has one, and else no number.
    First,
    /// Of three: the last pixel where the padding has one.
    Last,
    /// In the gradients of three: no pixel.
    None,
}

impl Rule {
    fn of(attrs: &Attrs<'_>, lost: Lost) -> Result<Self> {
        let refuse =
            || Error::Runtime(format!("grid_sampler(): unknown interpolation or padding mode {:?}", attrs.ints));
        let mode = match attrs.int(0) {
            0 => Mode::Linear,
            1 => Mode::Nearest,
            2 => Mode::Cubic,
            _ => return Err(refuse()),
        };
        let padding = match attrs.int(1) {
            0 => Padding::Zeros,
            1 => Padding::Border,
            2 => Padding::Reflection,
            _ => return Err(refuse()),
        };
        Ok(Self { mode, padding, align_corners: attrs.flag(2), lost })
    }

    fn taps(self) -> usize {
        match self.mode {
            Mode::Linear => 2,
            Mode::Nearest => 1,
            Mode::Cubic => 4,
        }
    }

    /// A coordinate in [-1, 1] as a pixel's, and how fast it moves.
    fn unnormalised<T: Float>(self, coordinate: T, size: usize) -> (T, T) {
        let (size, two) = (T::from_f64(size as f64), T::from_f64(2.0));
        let moved = coordinate.add(T::ONE);
        if self.align_corners {
            (moved.div(two).mul(size.sub(T::ONE)), size.sub(T::ONE).div(two))
        } else {
            (moved.mul(size).sub(T::ONE).div(two), size.div(two))
        }
    }

    /// A pixel's coordinate moved into the image by the padding, and how fast it then moves.
    fn padded<T: Float>(self, at: T, size: usize) -> (T, T) {
        let lost = if self.padding == Padding::Reflection { !is_finite(at) } else { at.is_nan() };
        if lost && self.padding != Padding::Zeros {
            let place = match self.lost {
                Lost::First => T::ZERO,
                Lost::Last => T::from_f64(size as f64 - 1.0),
                Lost::None => at.sub(at),
            };
            return (place, T::ZERO);
        }
        match self.padding {
            Padding::Zeros => (at, T::ONE),
            Padding::Border => clipped(at, size),
            Padding::Reflection => {
                let last = size as f64 - 1.0;
                let [low, high] = if self.align_corners { [0.0, last] } else { [-0.5, last + 0.5] };
                let (at, turn) = reflected(at, low, high);
                let (at, speed) = clipped(at, size);
                (at, turn.mul(speed))
            }
        }
    }

    /// The taps along one dimension.
    fn along<T: Float>(self, coordinate: T, size: usize) -> Along<T> {
        let (at, speed) = self.unnormalised(coordinate, size);
        let mut along = Along { index: [OUTSIDE; 4], weight: [T::ZERO; 4], slope: [T::ZERO; 4] };
        let inside = |index: i64| if (0..size as i64).contains(&index) { index } else { OUTSIDE };
        match self.mode {
            Mode::Nearest | Mode::Linear if self.padding == Padding::Zeros && !is_finite(at) => {
                along.weight = [at.sub(at); 4];
            }
            Mode::Nearest => {
                let (at, _) = self.padded(at, size);
                if is_finite(at) {
                    along.index[0] = inside(at.round_even().to_i64());
                    along.weight[0] = T::ONE;
                }
            }
            Mode::Linear => {
                let (at, turn) = self.padded(at, size);
                if !is_finite(at) {
                    return along;
                }
                let floor = at.floor();
                let (past, speed) = (at.sub(floor), speed.mul(turn));
                let first = floor.to_i64();
                along.index = [inside(first), inside(first.saturating_add(1)), OUTSIDE, OUTSIDE];
                along.weight = [T::ONE.sub(past), past, T::ZERO, T::ZERO];
                along.slope = [speed.neg(), speed, T::ZERO, T::ZERO];
            }
            Mode::Cubic => {
                let floor = at.floor();
                let past = at.sub(floor);
                for tap in 0..4 {
                    let offset = T::from_f64(tap as f64 - 1.0);
                    let (pixel, _) = self.padded(floor.add(offset), size);
                    along.index[tap] = if is_finite(pixel) { inside(pixel.to_i64()) } else { OUTSIDE };
                    let (weight, slope) = keys(past.sub(offset));
                    along.weight[tap] = weight;
                    along.slope[tap] = slope.mul(speed);
                }
            }
        }
        along
    }
}

/// The taps of one dimension: pixels, weights, and how the weights move with the coordinate.
#[derive(Clone, Copy)]
struct Along<T> {
    index: [i64; 4],
    weight: [T; 4],
    slope: [T; 4],
}

fn is_finite<T: Float>(value: T) -> bool {
    value.sub(value) == T::ZERO
}

fn clipped<T: Float>(at: T, size: usize) -> (T, T) {
    let last = T::from_f64(size as f64 - 1.0);
    if at <= T::ZERO {
        (T::ZERO, T::ZERO)
    } else if at >= last {
        (last, T::ZERO)
    } else {
        (at, T::ONE)
    }
}

fn reflected<T: Float>(at: T, low: f64, high: f64) -> (T, T) {
    if low == high {
        return (T::ZERO, T::ZERO);
    }
    let (low, span) = (T::from_f64(low), T::from_f64(high - low));
    let from = at.sub(low);
    let turn = if from < T::ZERO { T::ONE.neg() } else { T::ONE };
    let from = from.abs();
    let rest = from.fmod(span);
    let flips = from.div(span).floor().to_i64();
    if flips % 2 == 0 { (rest.add(low), turn) } else { (span.sub(rest).add(low), turn.neg()) }
}

/// Cubic convolution (Keys, 1981) with the free parameter -0.75, and its derivative.
fn keys<T: Float>(distance: T) -> (T, T) {
    const A: f64 = -0.75;
    let (signed, x) = (distance.to_f64(), distance.abs().to_f64());
    let sign = if signed < 0.0 { -1.0 } else { 1.0 };
    let (weight, slope) = if x <= 1.0 {
        (((A + 2.0) * x - (A + 3.0)) * x * x + 1.0, (3.0 * (A + 2.0) * x - 2.0 * (A + 3.0)) * x)
    } else if x < 2.0 {
        (((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A, (3.0 * A * x - 10.0 * A) * x + 8.0 * A)
    } else if x.is_nan() {
        (x, x)
    } else {
        (0.0, 0.0)
    };
    (T::from_f64(weight), T::from_f64(sign * slope))
}

/// A 4-D or 5-D tensor as (batch, channels, depth, height, width), or a grid of them without the
/// channels.
#[derive(Clone, Copy)]
struct Volume<S> {
    data: *mut S,
    sizes: [usize; 3],
    strides: [isize; 3],
    batch: isize,
    channel: isize,
}

// SAFETY: an address and a shape; tasks write disjoint parts.
unsafe impl<S> Send for Volume<S> {}
// SAFETY: as above.
unsafe impl<S> Sync for Volume<S> {}

impl<S> Volume<S> {
    /// The channels are dimension `channel`; the three spatial ones are the others after the batch.
    fn of(view: &View<'_>, channel: usize) -> Self {
        let spatial: Vec<usize> = (1..view.rank()).filter(|&dim| dim != channel).collected();
        let missing = 3 - spatial.len();
        Self {
            data: view.ptr(),
            sizes: std::array::from_fn(|at| if at < missing { 1 } else { view.size(spatial[at - missing]) }),
            strides: std::array::from_fn(|at| if at < missing { 0 } else { view.stride(spatial[at - missing]) }),
            batch: view.stride(0),
            channel: view.stride(channel),
        }
    }

    fn positions(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The offset of a position of a plane.
    fn position(&self, linear: usize) -> isize {
        let [_, height, width] = self.sizes;
        let at = [linear / (height * width), linear / width % height, linear % width];
        at.iter().zip(self.strides).map(|(&at, stride)| at as isize * stride).sum()
    }

    fn plane(&self, batch: usize, channel: usize) -> *mut S {
        self.data.wrapping_offset(batch as isize * self.batch + channel as isize * self.channel)
    }
}

struct Sampling<S> {
    rule: Rule,
    spatial: usize,
    batch: usize,
    channels: usize,
    input: Volume<S>,
    grid: Volume<S>,
    out: Volume<S>,
}

/// Checks `out` (or its gradient), `input` and `grid`.
fn sampling<S>(rule: Rule, out: &View<'_>, input: &View<'_>, grid: &View<'_>) -> Result<Sampling<S>> {
    let rank = input.rank();
    let refuse = |text: &str| Err(Error::Shape(format!("grid_sampler(): {text}")));
    if !matches!(rank, 4 | 5) || grid.rank() != rank || out.rank() != rank {
        return refuse("expected an input and a grid of four or five dimensions");
    }
    for view in [out, grid] {
        view.expect_dtype("an operand", input.dtype())?;
    }
    let (batch, channels, spatial) = (input.size(0), input.size(1), rank - 2);
    let positions = &grid.sizes()[1..rank - 1];
    if grid.size(0) != batch || grid.size(rank - 1) != spatial || input.sizes()[2..].contains(&0) {
        return refuse(&format!("a grid of {:?} does not fit an input of {:?}", grid.sizes(), input.sizes()));
    }
    let expected = [&[batch, channels][..], &positions.iter().map(|&size| size as usize).collected()].concat();
    out.expect_sizes("output", &expected)?;
    Ok(Sampling {
        rule,
        spatial,
        batch,
        channels,
        input: Volume::of(input, 1),
        grid: Volume::of(grid, rank - 1),
        out: Volume::of(out, 1),
    })
}

impl<S: StoredFloat> Sampling<S> {
    /// The taps of each dimension (depth, height, width) at a position of the grid.
    ///
    /// # Safety
    /// The position is the grid's.
    unsafe fn along(&self, batch: usize, position: usize) -> [Along<S::Math>; 3] {
        let at = self.grid.position(position);
        let whole = Along {
            index: [0, OUTSIDE, OUTSIDE, OUTSIDE],
            weight: [S::Math::ONE, S::Math::ZERO, S::Math::ZERO, S::Math::ZERO],
            slope: [S::Math::ZERO; 4],
        };
        std::array::from_fn(|dim| {
            let missing = 3 - self.spatial;
            if dim < missing {
                return whole;
            }
            // The grid's numbers run from the width to the depth.
            let number = 2 - dim;
            // SAFETY: the caller's.
            let coordinate = unsafe { (*self.grid.plane(batch, number).wrapping_offset(at)).load() };
            self.rule.along(coordinate, self.input.sizes[dim])
        })
    }

    fn per_position(&self) -> usize {
        self.rule.taps().pow(self.spatial as u32)
    }

    /// Calls `body(offset in the input's plane, [tap of each dimension])` for the taps inside.
    fn each_tap(&self, along: &[Along<S::Math>; 3], mut body: impl FnMut(isize, [usize; 3])) {
        let count = self.rule.taps();
        let counts: [usize; 3] = std::array::from_fn(|dim| if dim < 3 - self.spatial { 1 } else { count });
        for z in 0..counts[0] {
            for y in 0..counts[1] {
                for x in 0..counts[2] {
                    let taps = [z, y, x];
                    let index: [i64; 3] = std::array::from_fn(|dim| along[dim].index[taps[dim]]);
                    if !index.contains(&OUTSIDE) {
                        let offset = index.iter().zip(self.input.strides).map(|(&at, stride)| at as isize * stride);
                        body(offset.sum(), taps);
                    }
                }
            }
        }
    }

    /// What pixels outside of the image, which are zero, add to a sum: where the position is nowhere no number. `moved`
    /// is the dimension along which the sum is derived.
    fn nothing(&self, along: &[Along<S::Math>; 3], moved: usize) -> S::Math {
        if self.rule.lost != Lost::First || self.rule.mode == Mode::Nearest {
            return S::Math::ZERO;
        }
        let factors = along.iter().enumerate();
        let factors = factors.map(|(dim, along)| if dim == moved { along.slope[0] } else { along.weight[0] });
        factors.fold(S::Math::ZERO, |sum, factor| sum.add(factor.sub(factor)))
    }

    /// The taps of an image: `per_position` pairs of offset and weight for each position. Those
    /// outside have no place (`isize::MIN`) and are not read; their weight, zero or NaN, is what they add.
    fn table(&self, batch: usize) -> Vec<(isize, S::Math)> {
        let per_position = self.per_position();
        let mut table = filled(self.grid.positions() * per_position, (isize::MIN, S::Math::ZERO));
        let target = crate::reduce::engine::Shared(table.as_mut_ptr());
        let positions = self.grid.positions();
        threads::parallel_chunks(positions, TASK, positions * per_position * 4, |range| {
            for position in range {
                let mut next = position * per_position;
                // SAFETY: positions are the grid's, and each has its own part of the table.
                unsafe {
                    let along = self.along(batch, position);
                    *target.at(next) = (isize::MIN, self.nothing(&along, 3));
                    self.each_tap(&along, |offset, [z, y, x]| {
                        let weight = along[0].weight[z].mul(along[1].weight[y]).mul(along[2].weight[x]);
                        *target.at(next) = (offset, weight);
                        next += 1;
                    });
                }
            }
        });
        table
    }

    fn run(&self) {
        let (positions, per_position) = (self.grid.positions(), self.per_position());
        for batch in 0..self.batch {
            let table = self.table(batch);
            threads::parallel(self.channels, self.channels * table.len() * 2, |channel| {
                let (from, to) = (self.input.plane(batch, channel), self.out.plane(batch, channel));
                for position in 0..positions {
                    let mut sum = S::Math::ZERO;
                    for &(offset, weight) in &table[position * per_position..][..per_position] {
                        if offset != isize::MIN {
                            // SAFETY: taps lie within the plane.
                            sum = sum.add(weight.mul(unsafe { (*from.wrapping_offset(offset)).load() }));
                        } else {
                            sum = sum.add(weight);
                        }
                    }
                    // SAFETY: a position of the output's plane, which is this task's.
                    unsafe { *to.wrapping_offset(self.out.position(position)) = S::save(sum) };
                }
            });
        }
    }
}

/// `[out, input, grid]`: `(batch, channels, ...)` and `(batch, ..., dimensions)`; ints
/// `[interpolation (0 linear, 1 nearest, 2 cubic), padding (0 zeros, 1 border, 2 reflection),
/// align_corners]`.
pub fn grid_sample(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, input, grid] = views else {
        return Err(Error::Runtime(format!("expected [out, input, grid], got {} views", views.len())));
    };
    let rule = Rule::of(attrs, if input.rank() == 4 { Lost::First } else { Lost::Last })?;
    match_float!(input.dtype(), S => sampling::<S>(rule, out, input, grid)?.run());
    Ok(())
}

/// `[grad_input?, grad_grid?, grad_out, input, grid]`, ints as `grid_sample`'s.
pub fn grid_sample_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_grid, grad, input, grid] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let rule = Rule::of(attrs, if input.rank() == 4 { Lost::First } else { Lost::None })?;
    for (name, view, like) in [("grad_input", grad_input, input), ("grad_grid", grad_grid, grid)] {
        if let Some(view) = view.optional() {
            view.expect_dtype(name, input.dtype())?;
            if view.sizes() != like.sizes() {
                return Err(Error::Shape(format!("expected {name} of {:?}, got {:?}", like.sizes(), view.sizes())));
            }
        }
    }
    match_float!(input.dtype(), S => {
        let sampling = sampling::<S>(rule, grad, input, grid)?;
        if let Some(grad_input) = grad_input.optional() {
            sampling.spread(&Volume::of(grad_input, 1));
        }
        if let Some(grad_grid) = grad_grid.optional() {
            sampling.move_grid(&Volume::of(grad_grid, grid.rank() - 1));
        }
    });
    Ok(())
}

impl<S: StoredFloat> Sampling<S> {
    /// The input's gradient: what the positions read is given back to the pixels.
    fn spread(&self, grad_input: &Volume<S>) {
        let (positions, per_position) = (self.grid.positions(), self.per_position());
        // Sums lie densely; the table's offsets are by the input's strides.
        let dense = Sampling {
            input: Volume {
                strides: [(self.input.sizes[1] * self.input.sizes[2]) as isize, self.input.sizes[2] as isize, 1],
                ..self.input
            },
            ..*self
        };
        for batch in 0..self.batch {
            let table = dense.table(batch);
            threads::parallel(self.channels, self.channels * table.len() * 2, |channel| {
                let mut sums = filled(grad_input.positions(), S::Math::ZERO);
                let grad = self.out.plane(batch, channel);
                for position in 0..positions {
                    // SAFETY: a position of the gradient's plane.
                    let share = unsafe { (*grad.wrapping_offset(self.out.position(position))).load() };
                    for &(offset, weight) in &table[position * per_position..][..per_position] {
                        if offset != isize::MIN {
                            let sum = &mut sums[offset as usize];
                            *sum = sum.add(weight.mul(share));
                        }
                    }
                }
                let to = grad_input.plane(batch, channel);
                for (position, &sum) in sums.iter().enumerate() {
                    // SAFETY: a position of the plane, which is this task's.
                    unsafe { *to.wrapping_offset(grad_input.position(position)) = S::save(sum) };
                }
            });
        }
    }

    /// The grid's gradient: how the samples of all channels move with each coordinate.
    fn move_grid(&self, grad_grid: &Volume<S>) {
        let positions = self.grid.positions();
        let work = self.batch * positions * self.per_position() * self.channels * 2;
        threads::parallel_chunks(self.batch * positions, TASK / 8, work, |range| {
            for at in range {
                let (batch, position) = (at / positions, at % positions);
                // SAFETY: positions are the grid's and the output's; taps lie within the input.
                unsafe {
                    let along = self.along(batch, position);
                    let mut moves: [S::Math; 3] = std::array::from_fn(|dim| self.nothing(&along, dim));
                    self.each_tap(&along, |offset, taps| {
                        let mut change = S::Math::ZERO;
                        for channel in 0..self.channels {
                            let value = (*self.input.plane(batch, channel).wrapping_offset(offset)).load();
                            let grad = self.out.plane(batch, channel).wrapping_offset(self.out.position(position));
                            change = change.add(value.mul((*grad).load()));
                        }
                        for (dim, sum) in moves.iter_mut().enumerate() {
                            let factor = |other: usize| {
                                let along = &along[other];
                                if other == dim { along.slope[taps[other]] } else { along.weight[taps[other]] }
                            };
                            *sum = sum.add(change.mul(factor(0)).mul(factor(1)).mul(factor(2)));
                        }
                    });
                    for number in 0..self.spatial {
                        let to = grad_grid.plane(batch, number).wrapping_offset(grad_grid.position(position));
                        *to = moves[2 - number].save();
                    }
                }
            }
        });
    }
}
