//! Convolutions of one to three spatial dimensions, with groups, stride, padding and dilation.
//!
//! Forward and input gradient are one computation, a *gather*: every output position sums, over
//! the kernel's taps, a weight times the source at a fixed distance. The source (padded, and for a
//! stride split into its phases) lies in planes, so that along a plane a tap is an address plus a
//! constant, and the sum is a matrix product whose rows are found through a table of offsets. The
//! weight gradient is the same product, summed over the positions instead.

mod axis;
mod channels;
mod depthwise;
#[allow(clippy::needless_range_loop, reason = "two indices over arrays of fixed sizes unroll into registers")]
mod depthwise_channels;
mod gather;
mod planes;
mod pointwise;
mod positions;
#[allow(clippy::needless_range_loop, reason = "two indices over arrays of fixed sizes unroll into registers")]
mod product;
mod report;
#[allow(clippy::needless_range_loop, reason = "two indices over arrays of fixed sizes unroll into registers")]
mod tile;
#[allow(clippy::needless_range_loop, reason = "two indices over arrays of fixed sizes unroll into registers")]
mod weight_grad;
mod weight_grad_channels;
mod weights;

use crate::convert::StoredFloat;
use crate::error::{Error, Result};
use crate::finish::{self, Finish};
use crate::match_float;
use crate::math::total;
use crate::threads;
use crate::view::{Attrs, View};

/// Spatial dimensions, outermost first; missing ones have size one.
pub(crate) type Spatial = [usize; 3];

/// What a launch's ints say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    rank: usize,
    stride: Spatial,
    padding: Spatial,
    dilation: Spatial,
    groups: usize,
}

impl Geometry {
    fn of(attrs: &Attrs<'_>) -> Result<Self> {
        let refuse = |text: &str| Error::Runtime(format!("convolution: {text}, got {:?}", attrs.ints));
        let rank = attrs.ints.first().copied().unwrap_or(0);
        if !(1..=3).contains(&rank) || attrs.ints.len() != 3 * rank as usize + 2 {
            return Err(refuse("expected rank, stride, padding, dilation, groups"));
        }
        let rank = rank as usize;
        let three = |at: usize, missing: usize, least: i64| -> Result<Spatial> {
            let mut values = [missing; 3];
            for dim in 0..rank {
                let value = attrs.int(1 + at * rank + dim);
                if value < least {
                    return Err(refuse("stride and dilation must be positive, padding not negative"));
                }
                values[3 - rank + dim] = value as usize;
            }
            Ok(values)
        };
        let groups = attrs.int(3 * rank + 1);
        if groups < 1 {
            return Err(refuse("groups must be positive"));
        }
        Ok(Self {
            rank,
            stride: three(0, 1, 1)?,
            padding: three(1, 0, 0)?,
            dilation: three(2, 1, 1)?,
            groups: groups as usize,
        })
    }
}

impl Geometry {
    /// For images as the innermost dimension; see [`Images::inwards`].
    fn inwards(&self) -> Self {
        let turned = |[_, rows, cols]: Spatial, innermost| [rows, cols, innermost];
        Self {
            stride: turned(self.stride, 1),
            padding: turned(self.padding, 0),
            dilation: turned(self.dilation, 1),
            ..*self
        }
    }
}

/// A tensor of images, kernels or gradients: two outer dimensions and three spatial ones.
#[derive(Clone, Copy)]
pub(crate) struct Images<T> {
    pub data: *mut T,
    pub count: usize,
    pub channels: usize,
    pub size: Spatial,
    pub count_stride: isize,
    pub channel_stride: isize,
    pub stride: [isize; 3],
}

// SAFETY: an address and a shape; tasks write disjoint parts.
unsafe impl<T: Send> Send for Images<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Images<T> {}

impl<T> Images<T> {
    fn of(view: &View<'_>) -> Self {
        let rank = view.rank() - 2;
        let missing = 3 - rank;
        let at = |dim: usize| dim + 2 - missing;
        Self {
            data: view.ptr(),
            count: view.size(0),
            channels: view.size(1),
            size: std::array::from_fn(|dim| if dim < missing { 1 } else { view.size(at(dim)) }),
            count_stride: view.stride(0),
            channel_stride: view.stride(1),
            stride: std::array::from_fn(|dim| if dim < missing { 0 } else { view.stride(at(dim)) }),
        }
    }

    /// Some images of at most two dimensions as one whose innermost dimension counts them.
    fn inwards(&self, images: std::ops::Range<usize>) -> Self {
        let ([_, rows, cols], [_, down, along]) = (self.size, self.stride);
        Self {
            data: self.data.wrapping_offset(images.start as isize * self.count_stride),
            count: 1,
            channels: self.channels,
            size: [rows, cols, images.len()],
            count_stride: 0,
            channel_stride: self.channel_stride,
            stride: [down, along, self.count_stride],
        }
    }

    /// Kernels for such images: their innermost dimension has one element.
    fn turned(&self) -> Self {
        let ([_, rows, cols], [_, down, along]) = (self.size, self.stride);
        Self { size: [rows, cols, 1], stride: [down, along, 0], ..*self }
    }

    pub fn positions(&self) -> usize {
        self.size.iter().product()
    }

    /// From a channel's first element to the one at a position.
    pub fn offset(&self, at: Spatial) -> isize {
        (0..3).map(|dim| at[dim] as isize * self.stride[dim]).sum()
    }
}

/// Checks that `output` is what a convolution of `input` by `weight` gives.
fn check(geometry: &Geometry, output: &View<'_>, input: &View<'_>, weight: &View<'_>) -> Result<()> {
    for (name, view) in [("output", output), ("input", input), ("weight", weight)] {
        view.expect_rank(name, geometry.rank + 2)?;
        view.expect_dtype(name, output.dtype())?;
    }
    let Geometry { groups, .. } = *geometry;
    let refuse = |text: String| Err(Error::Shape(text));
    if input.size(1) != weight.size(1) * groups
        || output.size(1) != weight.size(0)
        || !weight.size(0).is_multiple_of(groups)
    {
        return refuse(format!(
            "convolution of {groups} groups: channels of input {:?}, weight {:?} and output {:?} do not fit",
            input.sizes(),
            weight.sizes(),
            output.sizes()
        ));
    }
    if input.size(0) != output.size(0) {
        return refuse(format!("input {:?} and output {:?} differ in batch", input.sizes(), output.sizes()));
    }
    for dim in 0..geometry.rank {
        let spatial = 3 - geometry.rank + dim;
        let kernel = weight.size(2 + dim);
        let reach = geometry.dilation[spatial] * kernel.saturating_sub(1) + 1;
        let padded = input.size(2 + dim) + 2 * geometry.padding[spatial];
        let expected = if kernel == 0 || padded < reach { 0 } else { (padded - reach) / geometry.stride[spatial] + 1 };
        // Fewer outputs are legal: a transposed convolution's output padding may leave some unread.
        if output.size(2 + dim) > expected {
            return refuse(format!(
                "input {:?} and weight {:?} do not give output {:?}",
                input.sizes(),
                weight.sizes(),
                output.sizes()
            ));
        }
    }
    Ok(())
}

fn operands<T>(wanted: &str, views: &[View<'_>]) -> Result<T> {
    Err(Error::Runtime(format!("expected {wanted}, got {} views", views.len())))
}

/// `[out, input, weight, bias?]`.
pub fn forward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    forward_telling(views, attrs, None)
}

/// As [`forward`]; see [`finish`].
pub fn forward_telling(views: &[View<'_>], attrs: &Attrs<'_>, finish: Option<&dyn Finish>) -> Result<()> {
    let [out, input, weight, bias] = views else { return operands("[out, input, weight, bias]", views) };
    let geometry = Geometry::of(attrs)?;
    check(&geometry, out, input, weight)?;
    if let Some(bias) = bias.optional() {
        bias.expect_dtype("bias", out.dtype())?;
        bias.expect_sizes("bias", &[out.size(1)])?;
    }
    finish::check(finish, out)?;
    match_float!(out.dtype(), S => gather::forward::<S>(&geometry, out, input, weight, bias.optional(), finish))
}

/// `[grad_input, grad_output, weight, bias?]`: the bias (of the input's channels) serves a
/// transposed convolution, whose output this is.
pub fn input_grad(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    input_grad_telling(views, attrs, None)
}

/// As [`input_grad`]; see [`finish`].
pub fn input_grad_telling(views: &[View<'_>], attrs: &Attrs<'_>, finish: Option<&dyn Finish>) -> Result<()> {
    let [grad_input, grad_output, weight, bias] = views else {
        return operands("[grad_input, grad_output, weight, bias]", views);
    };
    let geometry = Geometry::of(attrs)?;
    check(&geometry, grad_output, grad_input, weight)?;
    if let Some(bias) = bias.optional() {
        bias.expect_dtype("bias", grad_input.dtype())?;
        bias.expect_sizes("bias", &[grad_input.size(1)])?;
    }
    finish::check(finish, grad_input)?;
    match_float!(grad_input.dtype(), S => {
        gather::input_grad::<S>(&geometry, grad_input, grad_output, weight, bias.optional(), finish)
    })
}

/// `[grad_weight, input, grad_output]`.
pub fn weight_grad(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_weight, input, grad_output] = views else {
        return operands("[grad_weight, input, grad_output]", views);
    };
    let geometry = Geometry::of(attrs)?;
    check(&geometry, grad_output, input, grad_weight)?;
    match_float!(grad_weight.dtype(), S => weight_grad::run::<S>(&geometry, grad_weight, input, grad_output))
}

/// `[grad_bias, grad_output]`: sums over all but the channels.
pub fn bias_grad(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grad_bias, grad_output] = views else { return operands("[grad_bias, grad_output]", views) };
    if !(3..=5).contains(&grad_output.rank()) {
        return Err(Error::Shape(format!("expected grad_output to be 3-D to 5-D, got {:?}", grad_output.sizes())));
    }
    grad_output.expect_dtype("grad_output", grad_bias.dtype())?;
    grad_bias.expect_sizes("grad_bias", &[grad_output.size(1)])?;
    match_float!(grad_bias.dtype(), S => {
        sum_channels::<S>(grad_bias, &Images::of(grad_output));
        Ok(())
    })
}

fn sum_channels<S: StoredFloat>(sums: &View<'_>, images: &Images<S>) {
    let (to, step) = (Target(sums.ptr::<S>()), sums.stride(0));
    let level = crate::isa::level();
    let work = images.count * images.positions();
    threads::parallel(images.channels, images.channels * work / 4, |channel| {
        let sum = total((0..images.count).map(|image| planes::sum(level, images, image, channel)));
        // SAFETY: one task a channel; the gradient has as many elements as there are channels.
        unsafe { *to.get().offset(channel as isize * step) = S::from_f64(sum) };
    });
}

/// An address that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(crate) struct Target<T>(*mut T);
// SAFETY: an address; the tasks' partition is the kernel's.
unsafe impl<T> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Target<T> {}
impl<T> Target<T> {
    pub fn get(self) -> *mut T {
        self.0
    }
}
