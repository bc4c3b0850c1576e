//! Connectionist temporal classification (Graves et al., 2006): every way of saying the target,
//! summed forwards and backwards in log space.

use crate::convert::Stored;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, reserved};
use crate::match_float;
use crate::reduce::dense_as;
use crate::threads;
use crate::validate::indices::Legal;
use crate::view::{Attrs, View};

const NEVER: f64 = f64::NEG_INFINITY;

struct Problem<'a> {
    log_probs: &'a View<'a>,
    /// The labels of each sample.
    targets: Vec<Vec<usize>>,
    /// The steps of each sample.
    steps: Vec<usize>,
    blank: usize,
    zero_infinity: bool,
}

impl<'a> Problem<'a> {
    /// Ints `[blank, zero_infinity, steps of each sample, labels of each sample]`; targets of
    /// `[samples, labels]`, or those of all samples after one another.
    fn of(log_probs: &'a View<'a>, targets: &View<'_>, attrs: &Attrs<'_>) -> Result<Self> {
        log_probs.expect_rank("log_probs", 3)?;
        let [steps, samples, classes] = std::array::from_fn(|dim| log_probs.size(dim));
        let refuse = |text: String| Err(Error::Runtime(text));
        let [blank, zero_infinity] = [attrs.int(0), attrs.int(1)];
        if attrs.ints.len() != 2 + 2 * samples {
            return refuse(format!("expected lengths of {samples} samples, got {:?}", &attrs.ints[2..]));
        }
        if !(0..classes as i64).contains(&blank) {
            return refuse("blank must be in label range".into());
        }
        let (input_lengths, target_lengths) = attrs.ints[2..].split_at(samples);
        if let Some(length) = input_lengths.iter().find(|length| !(0..=steps as i64).contains(*length)) {
            return refuse(format!("Expected input_lengths to have value at most {steps}, but got value {length}"));
        }
        if let Some(length) = target_lengths.iter().find(|length| **length < 0) {
            return refuse(format!("Expected target_lengths to have value at least 0, but got value {length}"));
        }
        let mut lists = reserved(samples);
        dense_as(targets, DType::I64, |targets| {
            let mut start = 0;
            for (sample, &length) in target_lengths.iter().enumerate() {
                let (at, step, room) = match targets.rank() {
                    1 => (start, targets.stride(0), targets.size(0) as i64 - start as i64),
                    2 if targets.size(0) == samples => (0, targets.stride(1), targets.sizes()[1]),
                    _ => {
                        return Err(Error::Shape(format!(
                            "targets of shape {:?} do not fit {samples} samples",
                            targets.sizes()
                        )));
                    }
                };
                if length > room {
                    return Err(Error::Runtime(format!(
                        "Expected tensor to have size at least {length} at dimension 1, but got size {room} for targets"
                    )));
                }
                let row = if targets.rank() == 2 { sample as isize * targets.stride(0) } else { 0 };
                let mut list = reserved(length as usize);
                for label in 0..length as usize {
                    // SAFETY: within the targets, as checked above.
                    let label = unsafe { *targets.ptr::<i64>().offset(row + (at + label) as isize * step) };
                    Legal::below(classes as i64).check_all([label], |label| {
                        Error::Runtime(format!("target {label} is not a class of {classes}"))
                    })?;
                    list.push(label as usize);
                }
                start += length as usize;
                lists.push(list);
            }
            Ok(())
        })?;
        Ok(Self {
            log_probs,
            targets: lists,
            steps: input_lengths.iter().map(|&length| length as usize).collected(),
            blank: blank as usize,
            zero_infinity: zero_infinity != 0,
        })
    }

    /// States of a sample: its labels with blanks around them.
    fn states(&self, sample: usize) -> usize {
        2 * self.targets[sample].len() + 1
    }

    fn label(&self, sample: usize, state: usize) -> usize {
        if state.is_multiple_of(2) { self.blank } else { self.targets[sample][state / 2] }
    }

    /// Whether a path may go from `state` to `state + 2` past the blank between.
    fn skips(&self, sample: usize, state: usize) -> bool {
        state + 2 < self.states(sample) && self.label(sample, state) != self.label(sample, state + 2)
    }

    fn log_prob<S: Stored>(&self, step: usize, sample: usize, class: usize) -> f64 {
        let offset: isize =
            [step, sample, class].iter().enumerate().map(|(dim, &at)| at as isize * self.log_probs.stride(dim)).sum();
        // SAFETY: steps, samples and classes are the view's.
        unsafe { (*self.log_probs.ptr::<S>().offset(offset)).to_f64() }
    }

    fn work(&self) -> usize {
        (0..self.targets.len()).map(|sample| self.steps[sample] * self.states(sample) * 40).sum()
    }
}

fn log_sum(terms: [f64; 3]) -> f64 {
    let largest = terms.into_iter().fold(NEVER, f64::max);
    if largest == NEVER {
        return if terms.iter().any(|term| term.is_nan()) { f64::NAN } else { NEVER };
    }
    terms.into_iter().map(|term| (term - largest).exp()).sum::<f64>().ln() + largest
}

/// `[loss, log_alpha, log_probs, targets]`: `[samples]`, `[samples, steps, 2 * labels + 1]`, `[steps,
/// samples, classes]`; ints `[blank, zero_infinity, steps of each sample, labels of each]`.
pub fn ctc_loss(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [loss, log_alpha, log_probs, targets] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let problem = Problem::of(log_probs, targets, attrs)?;
    let samples = problem.targets.len();
    loss.expect_dtype("loss", log_probs.dtype())?;
    loss.expect_sizes("loss", &[samples])?;
    check_alpha(log_alpha, &problem)?;
    match_float!(log_probs.dtype(), S => threads::parallel(samples, problem.work(), |sample| {
        let (steps, states) = (problem.steps[sample], problem.states(sample));
        let mut row = filled(states, NEVER);
        let store = |step: usize, row: &[f64]| {
            for (state, &value) in row.iter().enumerate() {
                // SAFETY: within the sample's part of the paths' sums.
                unsafe { *alpha::<S>(log_alpha, sample, step, state) = S::from_f64(value) };
            }
        };
        for step in 0..steps {
            let prob = |state: usize| problem.log_prob::<S>(step, sample, problem.label(sample, state));
            row = (0..states)
                .map(|state| {
                    if step == 0 {
                        return if state < 2 { prob(state) } else { NEVER };
                    }
                    let before = if state > 0 { row[state - 1] } else { NEVER };
                    let skipped = if state > 1 && problem.skips(sample, state - 2) { row[state - 2] } else { NEVER };
                    log_sum([row[state], before, skipped]) + prob(state)
                })
                .collected();
            store(step, &row);
        }
        let total = if steps == 0 {
            if states == 1 { 0.0 } else { NEVER }
        } else {
            log_sum([row[states - 1], if states > 1 { row[states - 2] } else { NEVER }, NEVER])
        };
        // SAFETY: an element for each sample.
        unsafe { *loss.ptr::<S>().offset(sample as isize * loss.stride(0)) = S::from_f64(-total) };
    }));
    Ok(())
}

fn check_alpha(log_alpha: &View<'_>, problem: &Problem<'_>) -> Result<()> {
    log_alpha.expect_dtype("log_alpha", problem.log_probs.dtype())?;
    log_alpha.expect_rank("log_alpha", 3)?;
    let states = (0..problem.targets.len()).map(|sample| problem.states(sample)).max().unwrap_or(0);
    let fits = log_alpha.size(0) == problem.targets.len()
        && log_alpha.size(1) == problem.log_probs.size(0)
        && log_alpha.size(2) >= states;
    if fits { Ok(()) } else { Err(Error::Shape(format!("log_alpha of {:?} is too small", log_alpha.sizes()))) }
}

fn alpha<S>(view: &View<'_>, sample: usize, step: usize, state: usize) -> *mut S {
    let offset: isize = [sample, step, state].iter().enumerate().map(|(dim, &at)| at as isize * view.stride(dim)).sum();
    view.ptr::<S>().wrapping_offset(offset)
}

/// `[grad_log_probs, grad, log_probs, targets, loss, log_alpha]`; ints as `ctc_loss`'.
pub fn ctc_loss_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_probs, grad, log_probs, targets, loss, log_alpha] = views else {
        return Err(Error::Runtime(format!("expected 6 views, got {}", views.len())));
    };
    let problem = Problem::of(log_probs, targets, attrs)?;
    let samples = problem.targets.len();
    for (name, view) in [("grad", grad), ("loss", loss)] {
        view.expect_dtype(name, log_probs.dtype())?;
        view.expect_sizes(name, &[samples])?;
    }
    check_alpha(log_alpha, &problem)?;
    grad_probs.expect_dtype("grad_log_probs", log_probs.dtype())?;
    let [all_steps, _, classes] = std::array::from_fn(|dim| log_probs.size(dim));
    grad_probs.expect_sizes("grad_log_probs", &[all_steps, samples, classes])?;
    match_float!(log_probs.dtype(), S => threads::parallel(samples, problem.work() * 2, |sample| {
        let (steps, states) = (problem.steps[sample], problem.states(sample));
        // SAFETY: an element for each sample.
        let [grad, loss] = [grad, loss].map(|view| unsafe {
            Stored::to_f64(*view.ptr::<S>().offset(sample as isize * view.stride(0)))
        });
        let store = |step: usize, class: usize, value: f64| {
            let offset: isize =
                [step, sample, class].iter().enumerate().map(|(dim, &at)| at as isize * grad_probs.stride(dim)).sum();
            // SAFETY: within the gradient; samples are disjoint.
            unsafe { *grad_probs.ptr::<S>().offset(offset) = S::from_f64(value) };
        };
        let is_zero = problem.zero_infinity && loss == f64::INFINITY;
        let first_zero = if is_zero { 0 } else { steps };
        for step in first_zero..all_steps {
            (0..classes).for_each(|class| store(step, class, 0.0));
        }
        if is_zero {
            return;
        }
        let mut row = filled(states, NEVER);
        for step in (0..steps).rev() {
            let prob = |state: usize| problem.log_prob::<S>(step, sample, problem.label(sample, state));
            row = (0..states)
                .map(|state| {
                    if step + 1 == steps {
                        return if state + 2 >= states { prob(state) } else { NEVER };
                    }
                    let after = if state + 1 < states { row[state + 1] } else { NEVER };
                    let skipped = if problem.skips(sample, state) { row[state + 2] } else { NEVER };
                    log_sum([row[state], after, skipped]) + prob(state)
                })
                .collected();
            let mut paths = filled(classes, NEVER);
            for (state, &beta) in row.iter().enumerate() {
                // SAFETY: within the sample's part, which the forward pass wrote.
                let alpha = unsafe { Stored::to_f64(*alpha::<S>(log_alpha, sample, step, state)) };
                let sum = &mut paths[problem.label(sample, state)];
                *sum = log_sum([*sum, alpha + beta, NEVER]);
            }
            for (class, &paths) in paths.iter().enumerate() {
                let log_prob = problem.log_prob::<S>(step, sample, class);
                store(step, class, (log_prob.exp() - (paths + loss - log_prob).exp()) * grad);
            }
        }
    }));
    Ok(())
}
