//! Group normalisation (instance normalisation is a group a channel).

use super::channels::{Channels, Map, apply, statistics, sums};
use super::{expect_count, store, values, values_or};
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::match_float;
use crate::math::total;
use crate::view::{Attrs, View};

/// The channels of each group of `[N, C, ...]`.
fn channels_per_group(input: &View<'_>, groups: usize) -> Result<usize> {
    let channels = input.size(1);
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Error::Shape(format!("{channels} channels cannot be cut into {groups} groups")));
    }
    Ok(channels / groups)
}

/// `[output, mean, rstd, input, weight?, bias?]`; the statistics have shape `[N, groups]`; ints
/// `[groups]`, floats `[eps]`.
pub fn group_norm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, mean_view, rstd_view, input, weight, bias] = views else {
        return Err(Error::Runtime(format!("expected 6 views, got {}", views.len())));
    };
    let (groups, eps) = (attrs.int(0) as usize, attrs.float(0));
    let channels = Channels::of(input, true)?;
    let width = channels_per_group(input, groups)?;
    let samples = channels.samples;
    for (view, name) in [(mean_view, "mean"), (rstd_view, "rstd")] {
        expect_count(view, name, samples * groups)?;
    }
    for (view, name) in [(weight, "weight"), (bias, "bias")] {
        expect_count(view, name, channels.channels)?;
    }
    // `[N, groups, C / groups, ...]`
    let split = |list: &[i64], outer: i64, inner: i64| [&list[..1], &[outer, inner], &list[2..]].concat();
    let sizes = split(input.sizes(), groups as i64, width as i64);
    let channel_stride = input.strides()[1];
    let strides = split(input.strides(), channel_stride * width as i64, channel_stride);
    // SAFETY: the same elements, one dimension cut in two.
    let grouped = unsafe { input.reshaped(0, &sizes, &strides) };
    let mut kept = filled(sizes.len(), 1);
    kept[..2].copy_from_slice(&sizes[..2]);
    let [variance, mean] = statistics(&grouped, &kept)?;
    let rstd: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + eps).sqrt()).collected();
    let (weight, bias) = (values_or(weight, channels.channels, 1.0)?, values_or(bias, channels.channels, 0.0)?);
    let each = |value: &dyn Fn(usize, usize) -> f64| per_channel(&channels, width, value);
    let centre = each(&|group, _| mean[group]);
    let of_input = each(&|group, channel| rstd[group] * weight[channel]);
    let constant = each(&|_, channel| bias[channel]);
    let map = Map { centre: &centre, of_grad: &of_input, of_input: &of_input, constant: &constant };
    match_float!(input.dtype(), S => apply::<S>(&channels, &map, output, None, input)?);
    store(mean_view, &mean)?;
    store(rstd_view, &rstd)
}

/// A value for each channel of each sample, from its group (among all samples') and its channel.
fn per_channel(channels: &Channels, width: usize, value: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..channels.count()).map(|at| value(at / width, at % channels.channels)).collected()
}

/// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, mean, rstd, weight?]`; ints `[groups]`.
pub fn group_norm_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_weight, grad_bias, grad, input, mean, rstd, weight] = views else {
        return Err(Error::Runtime(format!("expected 8 views, got {}", views.len())));
    };
    let groups = attrs.int(0) as usize;
    let channels = Channels::of(input, true)?;
    let width = channels_per_group(input, groups)?;
    for (view, name) in [(mean, "mean"), (rstd, "rstd")] {
        expect_count(view, name, channels.samples * groups)?;
    }
    for (view, name) in [(weight, "weight"), (grad_weight, "grad_weight"), (grad_bias, "grad_bias")] {
        expect_count(view, name, channels.channels)?;
    }
    let (mean, rstd, weight) = (values(mean)?, values(rstd)?, values_or(weight, channels.channels, 1.0)?);
    let centre = per_channel(&channels, width, &|group, _| mean[group]);
    match_float!(input.dtype(), S => {
        let [grads, products] = sums::<S>(&channels, &centre, grad, input)?;
        if let Some(grad_input) = grad_input.optional() {
            let elements = (input.numel() / (channels.samples * groups).max(1)) as f64;
            // Over the channels of a group: what the mean and the deviation hand back.
            let back = |sums: &[f64], group: usize| -> f64 {
                let of = group * width..(group + 1) * width;
                of.map(|at| sums[at] * weight[at % channels.channels]).sum::<f64>() / elements
            };
            let groups = 0..channels.samples * groups;
            let of_mean: Vec<f64> = groups.clone().map(|group| -rstd[group] * back(&grads, group)).collected();
            let of_deviation: Vec<f64> = groups.map(|group| -rstd[group].powi(3) * back(&products, group)).collected();
            let of_grad = per_channel(&channels, width, &|group, channel| rstd[group] * weight[channel]);
            let of_input = per_channel(&channels, width, &|group, _| of_deviation[group]);
            let constant = per_channel(&channels, width, &|group, _| of_mean[group]);
            let map = Map { centre: &centre, of_grad: &of_grad, of_input: &of_input, constant: &constant };
            apply::<S>(&channels, &map, grad_input, Some(grad), input)?;
        }
        let over_samples = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let of = |channel: usize| (0..channels.samples).map(move |sample| sample * channels.channels + channel);
            (0..channels.channels).map(|channel| total(of(channel).map(value))).collected()
        };
        store(grad_weight, &over_samples(&|at| products[at] * rstd[at / width]))?;
        store(grad_bias, &over_samples(&|at| grads[at]))
    })
}
