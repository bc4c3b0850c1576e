//! Elements that are computed when a reduction wants them, where others are in memory.

use crate::error::Result;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Computes a reduction's input: a dense tensor, of which each element is asked for once.
pub trait Source: Sync {
    /// Computes the elements of `runs`: to `to`, one after another, or to the tensor's own memory.
    ///
    /// # Safety
    /// The runs are within the tensor, `to` is valid for writing them, and there is one unless the tensor
    /// [is stored](Self::is_stored). No element is asked for twice.
    unsafe fn compute(&self, runs: Runs, to: Option<*mut u8>);
    /// Folds the elements of each run to one f32: `LANES` at a time and each in its lane, then the lanes, each of
    /// the first half with the one of the second, and so on. Gives how many elements of each run it did, a
    /// multiple of `LANES`; it may be none.
    ///
    /// # Safety
    /// The runs are within the tensor, `results` is valid for one of each. No element is asked for twice.
    unsafe fn fold(&self, fold: Fold, runs: Runs, results: *mut f32) -> usize;
    /// Folds the elements of each run into those of one line of f32, each into the one of its place in the run, run
    /// after run. Gives how many elements of each run it did; it may be none.
    ///
    /// # Safety
    /// The runs are within the tensor, `line` is valid for a run's elements. No element is asked for twice.
    unsafe fn fold_across(&self, fold: Fold, runs: Runs, line: *mut f32) -> usize;
    /// Whether the tensor has memory, which something else reads as well.
    fn is_stored(&self) -> bool;
    /// What computing all elements takes, about, on one thread.
    fn nanoseconds(&self) -> usize;
}

/// Independent accumulators of one column, for the vector registers.
pub const LANES: usize = 32;

/// How an f32 joins an accumulator, where a source may do it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    Add,
    Max,
    Min,
}

impl Fold {
    /// What accumulators begin with.
    pub fn identity(self) -> f32 {
        match self {
            Self::Add => 0.0,
            Self::Max => f32::LOWEST,
            Self::Min => f32::HIGHEST,
        }
    }
}

/// Elements of a dense tensor, by their place in memory: `count` runs of `length` elements, the first
/// from `start`, each `step` after the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    pub start: usize,
    pub length: usize,
    pub count: usize,
    pub step: usize,
}

/// A row whose input may come from a source. The input's view then tells its sizes and strides; its
/// address is read only where the source stores the elements there.
pub type Launch = fn(&[View<'_>], &Attrs<'_>, Option<&dyn Source>) -> Result<()>;

/// An input, and who computes it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub view: &'a View<'a>,
    pub source: Option<&'a dyn Source>,
}
