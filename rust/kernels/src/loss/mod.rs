//! Losses that are more than a pointwise row and a reduction.

mod ctc;
mod margin;
mod nll;
mod probabilities;

pub use ctc::{ctc_loss, ctc_loss_backward};
pub use margin::{multi_margin, multi_margin_backward, multilabel_margin, multilabel_margin_backward};
pub use nll::{nll_loss, nll_loss_backward};
pub use probabilities::expect_probabilities;
