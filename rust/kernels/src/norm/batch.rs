//! Batch normalisation.

use super::channels::{Channels, Map, apply, statistics, sums};
use super::{expect_count, store, values, values_or};
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::match_float;
use crate::view::{Attrs, View};

/// `[output, save_mean?, save_invstd?, running_mean?, running_var?, input, weight?, bias?]`; ints
/// `[training]`, floats `[momentum, eps]`. In training the batch's statistics are used and saved,
/// and the running ones updated; otherwise the running ones are used and not written.
pub fn batch_norm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, save_mean, save_invstd, running_mean, running_var, input, weight, bias] = views else {
        return Err(Error::Runtime(format!("expected 8 views, got {}", views.len())));
    };
    let channels = Channels::of(input, false)?;
    let kept = [save_mean, save_invstd, running_mean, running_var];
    let coefficients = Coefficients::of(channels.channels, kept, [input, weight, bias], attrs)?;
    let Coefficients { mean, of_input, constant, .. } = &coefficients;
    let map = Map { centre: mean, of_grad: of_input, of_input, constant };
    match_float!(input.dtype(), S => apply::<S>(&channels, &map, output, None, input)?);
    coefficients.keep(kept, input, attrs)
}

/// `[centre, scale, constant, save_mean?, save_invstd?, running_mean?, running_var?, input?, weight?, bias?]`;
/// scalars as batch_norm's. What that needs to know of each channel, and all but its output, which is then
/// `(input - centre) * scale + constant`, rounded after the subtraction and at the end. The input is read in
/// training.
pub fn batch_norm_coefficients(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [centre, scale, constant, kept @ .., input, weight, bias] = views else {
        return Err(Error::Runtime(format!("expected 10 views, got {}", views.len())));
    };
    let [save_mean, save_invstd, running_mean, running_var] = kept else {
        return Err(Error::Runtime(format!("expected 10 views, got {}", views.len())));
    };
    let count = centre.numel();
    for (view, name) in [(scale, "the scale"), (constant, "the constant")] {
        expect_count(view, name, count)?;
    }
    if attrs.flag(0) && Channels::of(input, false)?.channels != count {
        return Err(Error::Shape(format!("expected an input of {count} channels, got {:?}", input.sizes())));
    }
    let kept = [save_mean, save_invstd, running_mean, running_var];
    let coefficients = Coefficients::of(count, kept, [input, weight, bias], attrs)?;
    store(centre, &coefficients.mean)?;
    store(scale, &coefficients.of_input)?;
    store(constant, &coefficients.constant)?;
    coefficients.keep(kept, input, attrs)
}

/// `[output, grad?, input, centre, of_grad?, of_input, constant?]`: `grad * of_grad + (input - centre) * of_input +
/// constant`, the last four given for each channel. Normalisation and its gradient where the statistics come from
/// elsewhere: from several processes.
pub fn map_channels(views: &[View<'_>], _: &Attrs<'_>) -> Result<()> {
    let [output, grad, input, centre, of_grad, of_input, constant] = views else {
        return Err(Error::Runtime(format!("expected 7 views, got {}", views.len())));
    };
    let channels = Channels::of(input, false)?;
    let count = channels.channels;
    let named = [(centre, "the centre"), (of_grad, "of_grad"), (of_input, "of_input"), (constant, "the constant")];
    for (view, name) in named {
        expect_count(view, name, count)?;
    }
    let (centre, of_input) = (values(centre)?, values(of_input)?);
    let (of_grad, constant) = (values_or(of_grad, count, 1.0)?, values_or(constant, count, 0.0)?);
    let map = Map { centre: &centre, of_grad: &of_grad, of_input: &of_input, constant: &constant };
    match_float!(input.dtype(), S => apply::<S>(&channels, &map, output, grad.optional(), input))
}

/// What batch normalisation needs to know of each channel.
struct Coefficients {
    mean: Vec<f64>,
    variance: Vec<f64>,
    invstd: Vec<f64>,
    of_input: Vec<f64>,
    constant: Vec<f64>,
}

impl Coefficients {
    fn of(
        count: usize,
        [save_mean, save_invstd, running_mean, running_var]: [&View<'_>; 4],
        [input, weight, bias]: [&View<'_>; 3],
        attrs: &Attrs<'_>,
    ) -> Result<Self> {
        let (training, eps) = (attrs.flag(0), attrs.float(1));
        let named = [
            (save_mean, "save_mean"),
            (save_invstd, "save_invstd"),
            (running_mean, "running_mean"),
            (running_var, "running_var"),
            (weight, "weight"),
            (bias, "bias"),
        ];
        for (view, name) in named {
            expect_count(view, name, count)?;
        }
        let [variance, mean] = if training {
            let mut sizes = filled(input.rank(), 1);
            sizes[1] = count as i64;
            statistics(input, &sizes)?
        } else {
            if !running_mean.is_present() || !running_var.is_present() {
                return Err(Error::Runtime("running statistics are needed where the batch's are not used".into()));
            }
            [values(running_var)?, values(running_mean)?]
        };
        let inverse = |variance: &f64| match variance + eps {
            // A channel that is constant, which PyTorch takes to nothing.
            0.0 if training => 0.0,
            spread => 1.0 / spread.sqrt(),
        };
        let invstd: Vec<f64> = variance.iter().map(inverse).collected();
        let (weight, constant) = (values_or(weight, count, 1.0)?, values_or(bias, count, 0.0)?);
        let of_input = weight.iter().zip(&invstd).map(|(weight, invstd)| weight * invstd).collected();
        Ok(Self { mean, variance, invstd, of_input, constant })
    }

    /// Saves the statistics of a batch in training, and updates the running ones.
    fn keep(
        &self,
        [save_mean, save_invstd, running_mean, running_var]: [&View<'_>; 4],
        input: &View<'_>,
        attrs: &Attrs<'_>,
    ) -> Result<()> {
        let (training, momentum) = (attrs.flag(0), attrs.float(0));
        if !training {
            return Ok(());
        }
        store(save_mean, &self.mean)?;
        store(save_invstd, &self.invstd)?;
        let elements = (input.numel() / self.mean.len().max(1)) as f64;
        let unbiased: Vec<f64> =
            self.variance.iter().map(|variance| variance * elements / (elements - 1.0)).collected();
        for (running, batch) in [(running_mean, &self.mean), (running_var, &unbiased)] {
            if running.is_present() {
                let before = values(running)?;
                let blend = |(before, batch): (&f64, &f64)| momentum * batch + (1.0 - momentum) * before;
                store(running, &before.iter().zip(batch).map(blend).collected())?;
            }
        }
        Ok(())
    }
}

/// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, weight?, mean, spread]`; ints
/// `[training]`, floats `[eps]`. In training mean and spread are the batch's mean and inverse
/// deviation that the forward pass saved, otherwise the running mean and variance.
pub fn batch_norm_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_weight, grad_bias, grad, input, weight, mean, spread] = views else {
        return Err(Error::Runtime(format!("expected 8 views, got {}", views.len())));
    };
    let training = attrs.flag(0);
    let channels = Channels::of(input, false)?;
    let count = channels.channels;
    let named = [
        (grad_weight, "grad_weight"),
        (grad_bias, "grad_bias"),
        (weight, "weight"),
        (mean, "the mean"),
        (spread, "the spread"),
    ];
    for (view, name) in named {
        expect_count(view, name, count)?;
    }
    let (mean, mut invstd, weight) = (values(mean)?, values(spread)?, values_or(weight, count, 1.0)?);
    if !training {
        invstd.iter_mut().for_each(|variance| *variance = 1.0 / (*variance + attrs.float(0)).sqrt());
    }
    match_float!(input.dtype(), S => {
        let needs_sums = training || grad_weight.is_present() || grad_bias.is_present();
        let [grads, products] =
            if needs_sums { sums::<S>(&channels, &mean, grad, input)? } else { [filled(count, 0.0), filled(count, 0.0)] };
        if let Some(grad_input) = grad_input.optional() {
            let elements = (input.numel() / count.max(1)) as f64;
            let share = if training { 1.0 / elements } else { 0.0 };
            let each = |value: &dyn Fn(usize) -> f64| (0..count).map(value).collected();
            let of_grad = each(&|at| weight[at] * invstd[at]);
            let of_input = each(&|at| -of_grad[at] * invstd[at] * invstd[at] * products[at] * share);
            let constant = each(&|at| -of_grad[at] * grads[at] * share);
            let map = Map { centre: &mean, of_grad: &of_grad, of_input: &of_input, constant: &constant };
            apply::<S>(&channels, &map, grad_input, Some(grad), input)?;
        }
        let products: Vec<f64> = products.iter().zip(&invstd).map(|(product, invstd)| product * invstd).collected();
        store(grad_weight, &products)?;
        store(grad_bias, &grads)
    })
}
