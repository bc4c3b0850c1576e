//! One spatial dimension of a gather: which outputs there are, and where their taps read.

use crate::fallible::Collected;

/// A tap of the kernel: its index, the phase of the source that it reads, and how far along.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    pub kernel: usize,
    pub phase: usize,
    pub shift: usize,
}

/// The source along a dimension, as laid out in planes: position `e` of phase `r` holds the source
/// at `e * step + residues[r] - low`, or zero outside of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub step: usize,
    pub residues: Vec<usize>,
    pub low: usize,
    pub extent: usize,
}

/// The outputs `first + step * j`, for `j < count`, and their taps: output `j` reads position
/// `j + shift` of the tap's phase.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    pub taps: Vec<Tap>,
}

/// Every output `o` reads `o * stride + k * dilation - padding`.
pub fn forward(outputs: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> (Source, Outputs) {
    let mut residues: Vec<usize> = (0..kernel).map(|k| k * dilation % stride).collected();
    residues.sort_unstable();
    residues.dedup();
    let taps: Vec<Tap> = (0..kernel)
        .map(|k| {
            let residue = k * dilation % stride;
            let phase = residues.iter().position(|&other| other == residue).expect("collected above");
            Tap { kernel: k, phase, shift: k * dilation / stride }
        })
        .collected();
    let extent = outputs + taps.iter().map(|tap| tap.shift).max().unwrap_or(0);
    (Source { step: stride, residues, low: padding, extent }, Outputs { first: 0, step: 1, count: outputs, taps })
}

impl Outputs {
    /// Drops the taps that find nothing but padding around the `size` positions of the source.
    pub fn drop_padding(&mut self, source: &Source, size: usize) {
        let count = self.count;
        self.taps.retain(|tap| {
            let at = |output: usize| (output + tap.shift) * source.step + source.residues[tap.phase];
            (0..count).any(|output| (source.low..source.low + size).contains(&at(output)))
        });
    }
}

/// The gradient of input `i` reads outputs `(i + padding - k * dilation) / stride`, where that is
/// whole: the inputs of one residue by the stride share their taps.
pub fn input_grad(
    inputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> (Source, Vec<Outputs>) {
    let shifts = |first: usize| {
        (0..kernel).filter_map(move |k| {
            let distance = (first + padding) as isize - (k * dilation) as isize;
            (distance.rem_euclid(stride as isize) == 0).then_some((k, distance.div_euclid(stride as isize)))
        })
    };
    let residues = 0..stride.min(inputs);
    let low = residues.clone().flat_map(shifts).map(|(_, shift)| -shift).max().unwrap_or(0).max(0);
    let classes: Vec<Outputs> = residues
        .map(|first| Outputs {
            first,
            step: stride,
            count: (inputs - first).div_ceil(stride),
            taps: shifts(first)
                .map(|(kernel, shift)| Tap { kernel, phase: 0, shift: (shift + low) as usize })
                .collected(),
        })
        .collected();
    let reach = |outputs: &Outputs| outputs.count + outputs.taps.iter().map(|tap| tap.shift).max().unwrap_or(0);
    let extent = classes.iter().map(reach).max().unwrap_or(0);
    (Source { step: 1, residues: Vec::from([0]), low: low as usize, extent }, classes)
}
