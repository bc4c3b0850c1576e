//! Convolutions with kernels of one element, where every output position reads the input at the same
//! position: matrix products of channels by channels and channels by positions.

use super::gather::Setup;
use super::{Geometry, Images};
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::Result;
use crate::finish::Finish;
use crate::matmul;
use crate::view::{Attrs, View};

/// Positions of an image from which one product an image is worth it.
const POSITIONS: usize = 64;
/// The least part of the channels that are summed over that must be computed: a product lays out what
/// it reads, and a gather does not.
const FEWEST: usize = 4;

/// `beta` and `alpha` of a product that is added to what is there.
const ADDED: Attrs<'static> = Attrs { ints: &[1, 1], floats: &[1.0, 1.0] };

/// Whether each output position reads the input at that position alone.
fn is_one<S>(geometry: &Geometry, output: &Images<S>, input: &Images<S>, kernel: &Images<S>) -> bool {
    let is_plain = geometry.stride == [1; 3] && geometry.padding == [0; 3] && geometry.groups == 1;
    is_plain && kernel.positions() == 1 && output.size == input.size
}

/// Images as matrices of channels by positions.
struct Matrices<S> {
    images: Images<S>,
    count: usize,
    positions: usize,
    /// Of a matrix, a channel and a position.
    strides: [isize; 3],
}

/// A dimension as long as both, the second inside of the first, where their elements are evenly apart.
fn joined((outer, far): (usize, isize), (inner, near): (usize, isize)) -> Option<(usize, isize)> {
    match (outer, inner) {
        (1, _) => Some((inner, near)),
        (_, 1) => Some((outer, far)),
        _ => (far == near * inner as isize).then_some((outer * inner, near)),
    }
}

impl<S: StoredFloat> Matrices<S> {
    /// One matrix an image; none where positions are not evenly apart.
    fn of(images: Images<S>) -> Option<Self> {
        let dim = |dim: usize| (images.size[dim], images.stride[dim]);
        let (positions, stride) = joined(dim(0), joined(dim(1), dim(2))?)?;
        let strides = [images.count_stride, images.channel_stride, stride];
        Some(Self { images, count: images.count, positions, strides })
    }

    /// One matrix for all images, where their positions follow each other.
    fn as_one(&self) -> Option<Self> {
        let [far, channel, near] = self.strides;
        let (positions, stride) = joined((self.count, far), (self.positions, near))?;
        Some(Self { images: self.images, count: 1, positions, strides: [0, channel, stride] })
    }

    fn is_channels_last(&self) -> bool {
        self.images.channel_stride == 1
    }

    fn operand(&self) -> Operand {
        let Self { images, count, positions, .. } = *self;
        let sizes = [count, images.channels, positions].map(|size| size as i64);
        Operand { data: images.data.cast(), sizes, strides: self.strides.map(|stride| stride as i64) }
    }
}

/// A batch of matrices.
#[derive(Clone, Copy)]
struct Operand {
    data: *mut u8,
    sizes: [i64; 3],
    strides: [i64; 3],
}

impl Operand {
    /// The same matrix, of rows and columns (size, stride), for each of a batch.
    fn shared<S>(data: *mut S, count: i64, [rows, cols]: [(usize, isize); 2]) -> Self {
        let sizes = [count, rows.0 as i64, cols.0 as i64];
        Self { data: data.cast(), sizes, strides: [0, rows.1 as i64, cols.1 as i64] }
    }

    fn transposed(mut self) -> Self {
        self.sizes.swap(1, 2);
        self.strides.swap(1, 2);
        self
    }

    fn at<S>(mut self, product: usize) -> Self {
        let elements = product as isize * self.strides[0] as isize;
        self.data = self.data.cast::<S>().wrapping_offset(elements).cast();
        self.sizes[0] = 1;
        self
    }

    /// # Safety
    /// The operand's memory is valid for as long as the view is used.
    unsafe fn view<S: StoredFloat>(&self) -> View<'_> {
        // SAFETY: the caller's.
        unsafe { View::new(self.data, S::DTYPE, &self.sizes, &self.strides) }
    }
}

/// The matrices of what is computed and what is read, in the form that is fastest; none where a gather is.
fn matrices<S: StoredFloat>(out: Images<S>, from: Images<S>) -> Option<(Matrices<S>, Matrices<S>)> {
    let (many, source) = (Matrices::of(out)?, Matrices::of(from)?);
    let is_last = many.is_channels_last() && source.is_channels_last();
    let is_exact = S::DTYPE == S::Math::DTYPE;
    let is_worth = is_exact && many.positions >= POSITIONS && out.channels * FEWEST > from.channels;
    if !is_last && !is_worth {
        return None;
    }
    Some(match (many.as_one(), source.as_one()) {
        (Some(one), Some(other)) => (one, other),
        _ => (many, source),
    })
}

/// A gather, if it is one. Whether it was computed.
pub fn gather<S: StoredFloat>(
    geometry: &Geometry,
    setup: &Setup<'_, S>,
    bias: Option<&View<'_>>,
    finish: Option<&dyn Finish>,
) -> Result<bool> {
    let Setup { out, from, kernel, strides: (_, output, input), .. } = *setup;
    if !is_one(geometry, &out, &from, kernel) {
        return Ok(false);
    }
    let Some((to, source)) = matrices(out, from) else { return Ok(false) };
    let (to, source) = (to.operand(), source.operand());
    let weights = Operand::shared(kernel.data, to.sizes[0], [(out.channels, output), (from.channels, input)]);
    // SAFETY: these are other views of the launch's own operands.
    let views = unsafe { [to.view::<S>(), weights.view::<S>(), source.view::<S>()] };
    let [to, weights, source] = views;
    match bias {
        None => matmul::batch_matmul_telling(&[to, weights, source], &Attrs::default(), finish)?,
        Some(bias) => {
            let strides = [0, bias.stride(0) as i64, 0];
            // SAFETY: a view of the bias that repeats it along images and positions.
            let bias = unsafe { View::new(bias.ptr::<S>().cast(), S::DTYPE, to.sizes(), &strides) };
            matmul::addmm_telling(&[to, bias, weights, source], &ADDED, finish)?;
        }
    }
    Ok(true)
}

/// A weight gradient, if it is one. Whether it was computed.
pub fn weight_grad<S: StoredFloat>(
    geometry: &Geometry,
    kernel: &Images<S>,
    input: &Images<S>,
    gradient: &Images<S>,
) -> Result<bool> {
    if !is_one(geometry, gradient, input, kernel) {
        return Ok(false);
    }
    let (Some(gradients), Some(inputs)) = (Matrices::of(*gradient), Matrices::of(*input)) else { return Ok(false) };
    let (gradients, inputs) = match (gradients.as_one(), inputs.as_one()) {
        (Some(one), Some(other)) => (one, other),
        // Each image's product is added to what is there, which must not be rounded.
        _ if S::DTYPE == S::Math::DTYPE && gradients.positions >= POSITIONS => (gradients, inputs),
        _ => return Ok(false),
    };
    let dims = [(kernel.count, kernel.count_stride), (kernel.channels, kernel.channel_stride)];
    let to = Operand::shared(kernel.data, 1, dims);
    for image in 0..gradients.count {
        let (gradient, input) = (gradients.operand().at::<S>(image), inputs.operand().at::<S>(image).transposed());
        // SAFETY: these are other views of the launch's own operands.
        let [to, gradient, input] = unsafe { [to.view::<S>(), gradient.view::<S>(), input.view::<S>()] };
        if image == 0 {
            matmul::batch_matmul(&[to, gradient, input], &Attrs::default())?;
        } else {
            matmul::addmm(&[to, to, gradient, input], &ADDED)?;
        }
    }
    Ok(gradients.count > 0)
}
