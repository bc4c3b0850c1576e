//! Ops that are one linear map along each spatial dimension: interpolation, padding by reflection
//! or replication, average pooling. Each is a table of taps a dimension ([`taps`]); one loop
//! ([`separable`]) applies the tables, and applies them transposed for the gradients.

mod separable;
mod taps;
mod whole;

use crate::convert::StoredFloat;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::reserved;
use crate::lanes::Real;
use crate::match_float;
use crate::view::{Attrs, View};
pub(crate) use taps::adaptive_window;
use taps::{Filter, Taps};

fn pair<'a, 'b>(views: &'b [View<'a>]) -> Result<[&'b View<'a>; 2]> {
    match views {
        [out, input] => Ok([out, input]),
        _ => Err(Error::Runtime(format!("expected [out, self], got {} views", views.len()))),
    }
}

/// Makes the taps of each of `spatial` dimensions from the larger or smaller tensor's sizes and
/// runs them; `transposed` swaps the roles of the two views.
fn run(
    views: &[View<'_>],
    spatial: usize,
    transposed: bool,
    table: impl Fn(usize, usize, usize) -> Result<Table>,
) -> Result<()> {
    let [out, input] = pair(views)?;
    out.expect_dtype("out", input.dtype())?;
    let rank = input.rank();
    if rank <= spatial || rank != out.rank() {
        return Err(Error::Shape(format!(
            "{:?} and {:?} do not have {spatial} dimensions to map",
            out.sizes(),
            input.sizes()
        )));
    }
    let leading = rank - spatial;
    if out.sizes()[..leading] != input.sizes()[..leading] {
        return Err(Error::Shape(format!(
            "{:?} and {:?} differ outside of the mapped dimensions",
            out.sizes(),
            input.sizes()
        )));
    }
    if !input.dtype().is_float() && !transposed {
        return of_integers(out, input, spatial, table);
    }
    match_float!(input.dtype(), S => {
        let mut tables = reserved(spatial);
        for dim in 0..spatial {
            let sizes = [input.size(leading + dim), out.size(leading + dim)];
            let [inputs, outputs] = if transposed { [sizes[1], sizes[0]] } else { sizes };
            let taps: Taps<<S as StoredFloat>::Math> = table(dim, inputs, outputs)?.taps(inputs, outputs);
            tables.push(if transposed { taps.transposed() } else { taps });
        }
        separable::apply::<S>(out, input, &tables);
    });
    Ok(())
}

/// Of integers, what moves elements; and of bytes, what weighs them.
fn of_integers(
    out: &View<'_>,
    input: &View<'_>,
    spatial: usize,
    table: impl Fn(usize, usize, usize) -> Result<Table>,
) -> Result<()> {
    let (mut moved, mut weighed) = (reserved(spatial), reserved(spatial));
    for dim in out.rank() - spatial..out.rank() {
        let (inputs, outputs) = (input.size(dim), out.size(dim));
        let table = table(dim + spatial - out.rank(), inputs, outputs)?;
        match table.moves() {
            true => moved.push(table.taps::<f32>(inputs, outputs)),
            false => weighed.push(table.taps::<f64>(inputs, outputs)),
        }
    }
    match (weighed.is_empty(), input.dtype()) {
        _ if out.numel() == 0 => Ok(()),
        (true, _) => whole::select(out, input, &moved),
        (false, DType::U8) => whole::weigh(out, input, &weighed),
        (false, other) => Error::dtype(other),
    }
}

/// How a dimension is mapped.
enum Table {
    /// `flat`, in two dimensions.
    Upsample {
        mode: i64,
        align_corners: bool,
        scale: f64,
        flat: bool,
    },
    Pad {
        reflect: bool,
        before: i64,
    },
    Window {
        kernel: usize,
        stride: usize,
        padding: usize,
        divisor: taps::Divisor,
    },
    Adaptive,
}

impl Table {
    /// Whether each output is one input.
    fn moves(&self) -> bool {
        matches!(self, Self::Upsample { mode: 0 | 1, .. } | Self::Pad { .. })
    }

    fn taps<T: Real>(self, inputs: usize, outputs: usize) -> Taps<T> {
        match self {
            Self::Upsample { mode, align_corners, scale, flat } => {
                let step = taps::step::<T>(inputs, outputs, align_corners, scale);
                match mode {
                    0 => taps::nearest(inputs, outputs, step, false, flat),
                    1 => taps::nearest(inputs, outputs, step, true, false),
                    2 => taps::linear(inputs, outputs, step, align_corners),
                    3 => taps::cubic(inputs, outputs, step, align_corners),
                    4 => taps::smooth(inputs, outputs, step, Filter::Linear),
                    5 => taps::smooth(inputs, outputs, step, Filter::Cubic),
                    _ => taps::smooth(inputs, outputs, step, Filter::Lanczos),
                }
            }
            Self::Pad { reflect, before } => taps::pad(inputs, outputs, before, reflect),
            Self::Window { kernel, stride, padding, divisor } => {
                taps::window(inputs, outputs, kernel, stride, padding, divisor)
            }
            Self::Adaptive => taps::adaptive(inputs, outputs),
        }
    }
}

fn upsampled(views: &[View<'_>], attrs: &Attrs<'_>, transposed: bool) -> Result<()> {
    let (mode, align_corners) = (attrs.int(0), attrs.flag(1));
    run(views, attrs.floats.len(), transposed, |dim, inputs, outputs| {
        if inputs == 0 || outputs == 0 {
            return Err(Error::Shape("Input and output sizes should be greater than 0".into()));
        }
        Ok(Table::Upsample { mode, align_corners, scale: attrs.float(dim), flat: attrs.floats.len() == 2 })
    })
}

/// `[out, self]`; ints `[mode, align_corners]`: 0 nearest, 1 nearest-exact, 2 linear, 3 cubic, and
/// antialiased: 4 linear, 5 cubic, 6 Lanczos; floats: the scale given for each spatial dimension, or
/// zero.
pub fn upsample(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    upsampled(views, attrs, false)
}

/// `[grad_in, grad_out]`, scalars as `upsample`'s.
pub fn upsample_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    upsampled(views, attrs, true)
}

fn padded(views: &[View<'_>], attrs: &Attrs<'_>, transposed: bool) -> Result<()> {
    let reflect = attrs.flag(0);
    run(views, attrs.ints.len() - 1, transposed, |dim, inputs, outputs| {
        let before = attrs.int(1 + dim);
        // What a reflection reaches, on either side.
        let reach = before.max(outputs as i64 - inputs as i64 - before);
        if outputs > 0 && (inputs == 0 || (reflect && reach >= inputs as i64)) {
            return Err(Error::Shape(format!(
                "Padding size should be less than the corresponding input dimension, but got {reach} for size {inputs}"
            )));
        }
        Ok(Table::Pad { reflect, before })
    })
}

/// `[out, self]`; ints `[reflect (else replicate), elements before the first in each spatial
/// dimension]`, which may be negative.
pub fn pad(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    padded(views, attrs, false)
}

/// `[grad_in, grad_out]`, ints as `pad`'s.
pub fn pad_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    padded(views, attrs, true)
}

fn averaged(views: &[View<'_>], attrs: &Attrs<'_>, transposed: bool) -> Result<()> {
    let spatial = (attrs.ints.len() - 2) / 3;
    let (with_padding, fixed) = (attrs.flag(3 * spatial), attrs.int(3 * spatial + 1));
    run(views, spatial, transposed, |dim, _, _| {
        let [kernel, stride, padding] = [0, 1, 2].map(|part| attrs.int(part * spatial + dim));
        if kernel < 1 || stride < 1 || padding < 0 {
            return Err(Error::Runtime("kernel size and stride should be greater than zero".into()));
        }
        let divisor = match (fixed, dim) {
            (0, _) if with_padding => taps::Divisor::Padded,
            (0, _) => taps::Divisor::Seen,
            (fixed, 0) => taps::Divisor::Fixed(fixed as f64),
            _ => taps::Divisor::Fixed(1.0),
        };
        Ok(Table::Window { kernel: kernel as usize, stride: stride as usize, padding: padding as usize, divisor })
    })
}

/// `[out, self]`; ints `[kernel, stride, padding (one for each spatial dimension),
/// count_include_pad, divisor_override (0: none)]`.
pub fn average_windows(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    averaged(views, attrs, false)
}

/// `[grad_in, grad_out]`, ints as `average_windows`'.
pub fn average_windows_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    averaged(views, attrs, true)
}

/// `[out, self]`; ints `[spatial dimensions]`.
pub fn adaptive_average(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    run(views, attrs.int(0) as usize, false, |_, _, _| Ok(Table::Adaptive))
}

/// `[grad_in, grad_out]`; ints `[spatial dimensions]`.
pub fn adaptive_average_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    run(views, attrs.int(0) as usize, true, |_, _, _| Ok(Table::Adaptive))
}
