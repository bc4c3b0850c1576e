//! Max pooling by windows that differ from output to output or have three dimensions, and the way
//! back by positions: gradients of it, and unpooling.

use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::index::Arithmetic;
use crate::resample::adaptive_window;
use crate::scratch::Scratch;
use crate::threads;
use crate::validate::indices::Legal;
use crate::value::Value;
use crate::view::{Attrs, View};
use crate::{match_float, match_stored};

/// Outputs of a task, at least.
const TASK: usize = 2 * 1024;

/// The inputs that one output sees along a dimension.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    count: usize,
    step: usize,
}

/// Depth, height, width; missing ones have size one.
type Sizes = [usize; 3];

/// The planes of a view: its last `spatial` dimensions, one for each index of the others.
#[derive(Clone, Copy)]
struct Planes<'a> {
    view: View<'a>,
    leading: usize,
}

impl<'a> Planes<'a> {
    fn of(view: &View<'a>, spatial: usize, name: &str) -> Result<Self> {
        if !(1..=3).contains(&spatial) || view.rank() <= spatial {
            return Err(Error::Shape(format!(
                "expected {name} of more than {spatial} dimensions, got {:?}",
                view.sizes()
            )));
        }
        Ok(Self { view: *view, leading: view.rank() - spatial })
    }

    fn count(&self) -> usize {
        self.view.sizes()[..self.leading].iter().product::<i64>() as usize
    }

    fn spatial(&self) -> usize {
        self.view.rank() - self.leading
    }

    fn size(&self) -> Sizes {
        let missing = 3 - self.spatial();
        std::array::from_fn(|dim| if dim < missing { 1 } else { self.view.size(self.leading + dim - missing) })
    }

    fn strides(&self) -> [isize; 3] {
        let missing = 3 - self.spatial();
        std::array::from_fn(|dim| if dim < missing { 0 } else { self.view.stride(self.leading + dim - missing) })
    }

    fn pixels(&self) -> usize {
        self.size().iter().product()
    }

    fn offset(&self, mut plane: usize) -> isize {
        let mut offset = 0;
        for dim in (0..self.leading).rev() {
            offset += (plane % self.view.size(dim)) as isize * self.view.stride(dim);
            plane /= self.view.size(dim);
        }
        offset
    }

    fn expect_leading_of(&self, other: &Self, name: &str) -> Result<()> {
        if self.view.sizes()[..self.leading] == other.view.sizes()[..other.leading] {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "{name} {:?} and {:?} differ in batch or channels",
            self.view.sizes(),
            other.view.sizes()
        )))
    }
}

/// Pools planes by the windows that `spans(plane, dim)` gives: one an output along each dimension.
fn pool<F>(out: &View<'_>, indices: &View<'_>, input: &View<'_>, spatial: usize, spans: F) -> Result<()>
where
    F: Fn(usize, usize) -> Vec<Span> + Sync,
{
    indices.expect_dtype("indices", DType::I64)?;
    out.expect_dtype("out", input.dtype())?;
    if out.sizes() != indices.sizes() {
        return Err(Error::Shape(format!("out {:?} and indices {:?} differ in shape", out.sizes(), indices.sizes())));
    }
    let [outputs, places, inputs] = [
        Planes::of(out, spatial, "out")?,
        Planes::of(indices, spatial, "indices")?,
        Planes::of(input, spatial, "input")?,
    ];
    outputs.expect_leading_of(&inputs, "out")?;
    let (planes, pixels) = (outputs.count(), outputs.pixels());
    if planes * pixels == 0 {
        return Ok(());
    }
    let work = planes * (pixels + inputs.pixels()) * 2;
    match_stored!(input.dtype(), S => threads::parallel_chunks(planes, (TASK / pixels).max(1), work, |range| {
        for plane in range {
            let spans: [Vec<Span>; 3] = std::array::from_fn(|dim| spans(plane, dim));
            // SAFETY: the spans lie within the input's plane, and there is one for each output.
            unsafe { pool_plane::<S>([&outputs, &places, &inputs], plane, &spans) };
        }
    }));
    Ok(())
}

/// The first of equal maxima wins, and the last NaN.
///
/// # Safety
/// The spans lie within the input's plane, and there is one for each output.
unsafe fn pool_plane<S: Arithmetic>(
    [outputs, places, inputs]: [&Planes<'_>; 3],
    plane: usize,
    [depths, rows, columns]: &[Vec<Span>; 3],
) {
    let from = inputs.view.ptr::<S>().wrapping_offset(inputs.offset(plane));
    let to = outputs.view.ptr::<S>().wrapping_offset(outputs.offset(plane));
    let place = places.view.ptr::<i64>().wrapping_offset(places.offset(plane));
    let (strides, to_strides, place_strides) = (inputs.strides(), outputs.strides(), places.strides());
    let [_, height, width] = inputs.size();
    let along = |strides: [isize; 3], at: [usize; 3]| -> isize {
        at.iter().zip(strides).map(|(&at, stride)| at as isize * stride).sum()
    };
    for (depth, depths) in depths.iter().enumerate() {
        for (row, rows) in rows.iter().enumerate() {
            for (column, columns) in columns.iter().enumerate() {
                let mut best = <S::Math as Value>::LOWEST;
                let mut position = (depths.start * height + rows.start) * width + columns.start;
                for z in (0..depths.count).map(|at| depths.start + at * depths.step) {
                    for y in (0..rows.count).map(|at| rows.start + at * rows.step) {
                        for x in (0..columns.count).map(|at| columns.start + at * columns.step) {
                            // SAFETY: the caller's.
                            let value = S::Math::load(unsafe { *from.wrapping_offset(along(strides, [z, y, x])) });
                            if value > best || value.is_nan() {
                                best = value;
                                position = (z * height + y) * width + x;
                            }
                        }
                    }
                }
                let at = [depth, row, column];
                // SAFETY: an output of the plane.
                unsafe {
                    *to.wrapping_offset(along(to_strides, at)) = best.save();
                    *place.wrapping_offset(along(place_strides, at)) = position as i64;
                }
            }
        }
    }
}

fn three<'a, 'b>(views: &'b [View<'a>]) -> Result<[&'b View<'a>; 3]> {
    match views {
        [a, b, c] => Ok([a, b, c]),
        _ => Err(Error::Runtime(format!("expected 3 views, got {}", views.len()))),
    }
}

/// The size along `dim` of three, for planes of `spatial` dimensions that end the view's.
fn sized(view: &View<'_>, spatial: usize, dim: usize) -> usize {
    let missing = 3 - spatial;
    if dim < missing { 1 } else { view.size(view.rank() - 3 + dim) }
}

const ONE: Span = Span { start: 0, count: 1, step: 1 };

/// `[out, indices (i64), self]`; ints `[kernel, stride, padding, dilation]`, (depth, height, width)
/// each. An index is a voxel's number in its volume.
pub fn max_pool3d(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, indices, input] = three(views)?;
    let [kernel, stride, padding, dilation] = [0, 3, 6, 9].map(|at| attrs.sizes::<3>(at));
    if [kernel, stride, dilation].as_flattened().contains(&0) {
        return Err(Error::Runtime("kernel size, stride and dilation should be greater than zero".into()));
    }
    Planes::of(input, 3, "input")?;
    Planes::of(out, 3, "out")?;
    for dim in 0..3 {
        let last = sized(out, 3, dim).saturating_sub(1) * stride[dim];
        if out.numel() > 0 && last >= sized(input, 3, dim) + padding[dim] {
            return Err(Error::Shape(format!("{:?} has no windows for {:?}", input.sizes(), out.sizes())));
        }
    }
    pool(out, indices, input, 3, |_, dim| {
        let size = sized(input, 3, dim);
        let span = |output: usize| {
            let skipped = padding[dim].saturating_sub(output * stride[dim]).div_ceil(dilation[dim]);
            let start = output * stride[dim] + skipped * dilation[dim] - padding[dim];
            let inside = size.saturating_sub(start).div_ceil(dilation[dim]);
            Span { start, count: kernel[dim].saturating_sub(skipped).min(inside), step: dilation[dim] }
        };
        (0..sized(out, 3, dim)).map(span).collected()
    })
}

/// `[out, indices (i64), self]`; ints `[spatial dimensions]`.
pub fn adaptive_max(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, indices, input] = three(views)?;
    let spatial = attrs.int(0) as usize;
    let [inputs, outputs] = [Planes::of(input, spatial, "input")?, Planes::of(out, spatial, "out")?];
    let (inputs, outputs) = (inputs.size(), outputs.size());
    pool(out, indices, input, spatial, |_, dim| {
        let span = |output: usize| {
            let window = adaptive_window(inputs[dim], outputs[dim], output);
            Span { start: window.start, count: window.len(), step: 1 }
        };
        (0..outputs[dim]).map(span).collected()
    })
}

/// `[out, indices (i64), self, samples (batch, channels, spatial)]`; ints `[kernel (one for each
/// spatial dimension)]`. The samples, in [0, 1), say where the windows begin (Graham, Fractional
/// max-pooling, 2014); in two dimensions the first is the width's, in three the depth's.
pub fn fractional_max(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, indices, input, samples] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let spatial = attrs.ints.len();
    let [inputs, outputs] = [Planes::of(input, spatial, "input")?, Planes::of(out, spatial, "out")?];
    samples.expect_rank("random_samples", 3)?;
    samples.expect_dtype("random_samples", input.dtype())?;
    let channels = input.size(input.rank() - spatial - 1);
    let batches = outputs.count() / channels.max(1);
    // As in PyTorch, samples of a larger batch serve in three dimensions.
    let enough = if spatial == 2 { samples.size(0) == batches } else { samples.size(0) >= batches };
    if !enough || samples.size(1) != channels || samples.size(2) != spatial {
        return Err(Error::Shape(format!("random_samples of {:?} do not fit {:?}", samples.sizes(), input.sizes())));
    }
    let missing = 3 - spatial;
    for dim in 0..3 {
        let kernel = if dim < missing { 1 } else { attrs.int(dim - missing) };
        if kernel < 1 || kernel as usize + outputs.size()[dim] > inputs.size()[dim] + 1 {
            return Err(Error::Shape(format!("{:?} is too small for windows of {:?}", input.sizes(), attrs.ints)));
        }
    }
    let (sizes, counts) = (inputs.size(), outputs.size());
    match_float!(input.dtype(), S => pool(out, indices, input, spatial, |plane, dim| {
        if dim < missing {
            return Vec::from([ONE]);
        }
        let at = dim - missing;
        let sample = if spatial == 2 { 1 - at } else { at };
        let [batch, channel] = [plane / channels, plane % channels];
        let at_dim = |dim: usize, index: usize| index as isize * samples.stride(dim);
        let offset = at_dim(0, batch) + at_dim(1, channel) + at_dim(2, sample);
        // SAFETY: the samples have an element for each plane and dimension.
        let sample = unsafe { *samples.ptr::<S>().offset(offset) };
        starts(Stored::to_f64(sample), input.dtype() == DType::F64, sizes[dim], counts[dim], attrs.int(at) as usize)
    }))
}

/// Where the windows of `kernel` begin, in the arithmetic of the samples.
fn starts(sample: f64, double: bool, inputs: usize, outputs: usize, kernel: usize) -> Vec<Span> {
    let room = inputs - kernel;
    let at = |index: usize| {
        if index + 1 == outputs {
            return room as i64;
        }
        if double {
            let alpha = room as f64 / (outputs - 1) as f64;
            return ((index as f64 + sample) * alpha) as i64 - (sample * alpha) as i64;
        }
        let (sample, alpha) = (sample as f32, room as f32 / (outputs - 1) as f32);
        ((index as f32 + sample) * alpha) as i64 - (sample * alpha) as i64
    };
    let start = |index| at(index).clamp(0, room as i64) as usize;
    (0..outputs).map(|index| Span { start: start(index), count: kernel, step: 1 }).collected()
}

/// `[out, self, indices (i64)]`; ints `[spatial dimensions, add]`: zeros, and each value at its
/// index of its plane. With `add`, values that meet are summed; else the last stays.
pub fn unpool(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, values, indices] = three(views)?;
    let (spatial, add) = (attrs.int(0) as usize, attrs.flag(1));
    indices.expect_dtype("indices", DType::I64)?;
    out.expect_dtype("out", values.dtype())?;
    if values.sizes() != indices.sizes() {
        return Err(Error::Shape(format!(
            "values {:?} and indices {:?} differ in shape",
            values.sizes(),
            indices.sizes()
        )));
    }
    let [outputs, inputs, places] = [
        Planes::of(out, spatial, "out")?,
        Planes::of(values, spatial, "values")?,
        Planes::of(indices, spatial, "indices")?,
    ];
    outputs.expect_leading_of(&inputs, "out")?;
    let pixels = outputs.pixels();
    Legal::below(pixels as i64).check(indices, |index| {
        let sizes = &out.sizes()[outputs.leading..];
        Error::Runtime(format!("Found an invalid max index: {index} (output volumes are of size {sizes:?})"))
    })?;
    if out.numel() == 0 {
        return Ok(());
    }
    let planes = outputs.count();
    let work = out.numel() + values.numel() * 4;
    match_stored!(out.dtype(), S => threads::parallel_chunks(planes, (TASK / pixels).max(1), work, |range| {
        type Math<S> = <S as Arithmetic>::Math;
        // A task cannot refuse but by a panic, which `launch` turns into an error.
        let memory = Scratch::<Math<S>>::new(pixels).expect("working memory for a plane");
        for plane in range {
            // SAFETY: the scratch holds a plane; indices were checked; planes are disjoint.
            unsafe {
                let sums = std::slice::from_raw_parts_mut(memory.ptr(), pixels);
                sums.fill(Value::ZERO);
                each(&[&inputs, &places], plane, |[value, place]| {
                    let value = Math::<S>::load(*inputs.view.ptr::<S>().offset(value));
                    let sum = &mut sums[*places.view.ptr::<i64>().offset(place) as usize];
                    *sum = if add { Value::add(*sum, value) } else { value };
                });
                let mut sums = sums.iter();
                each(&[&outputs], plane, |[at]| {
                    if let Some(&sum) = sums.next() {
                        *out.ptr::<S>().offset(at) = sum.save();
                    }
                });
            }
        }
    }));
    Ok(())
}

/// Calls `body` with the offsets of a plane's elements, in C order.
fn each<const VIEWS: usize>(planes: &[&Planes<'_>; VIEWS], plane: usize, mut body: impl FnMut([isize; VIEWS])) {
    let starts = planes.map(|planes| planes.offset(plane));
    let strides = planes.map(|planes| planes.strides());
    let [depth, height, width] = planes[0].size();
    for z in 0..depth {
        for y in 0..height {
            for x in 0..width {
                body(std::array::from_fn(|view| {
                    let [along_z, along_y, along_x] = strides[view];
                    starts[view] + z as isize * along_z + y as isize * along_y + x as isize * along_x
                }));
            }
        }
    }
}
