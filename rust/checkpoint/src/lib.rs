//! Checkpoints: safetensors files that also carry checksums, layouts and a program's state.
//!
//! A checkpoint is a safetensors file, which other programs open. Beyond safetensors it holds, in the
//! header's metadata, the version of the format, a CRC-32 of the header and of each tensor, how
//! tensors lay in memory, and a text of the caller's. Plain and sharded safetensors files of other
//! programs open as well. `docs/checkpoints.md` describes the format.

#[cfg(not(target_endian = "little"))]
compile_error!("safetensors files are little-endian, and tensors are read and written as they lie");

mod destination;
mod dtype;
mod error;
mod header;
mod layout;
mod metadata;
mod open;
mod read;
mod unique;
mod write;

pub use dtype::Dtype;
pub use error::{Error, Result};
pub use header::{Entry, Header, MOST_DIMENSIONS, MOST_HEADER_BYTES, Refusal};
pub use layout::{Layout, MOST_SPREAD};
pub use metadata::Version;
pub use open::Checkpoint;
pub use write::{Tensor, write};
