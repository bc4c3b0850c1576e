//! LSTM and GRU: single cells after their matrix products, and whole layers, which take every step
//! of a sequence in one launch.
//!
//! Gates lie side by side in a row: input, forget, candidate, output for an LSTM; reset, update,
//! candidate for a GRU, as PyTorch packs a layer's weights.

mod cell;
mod gate;
mod layer;
mod steps;

pub use cell::{gru_cell, gru_cell_backward, lstm_cell, lstm_cell_backward};
pub use layer::{gru_layer, gru_layer_backward, lstm_layer, lstm_layer_backward};
