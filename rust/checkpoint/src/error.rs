//! What can be wrong with a checkpoint.

use std::path::{Path, PathBuf};

use crate::metadata::Version;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The bytes are not those of a sound file; the text says which rule they break.
    #[error("{} is not a sound checkpoint: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("{}: the bytes of tensor '{tensor}' have changed since they were written: their CRC-32 is {found:08x}, and {expected:08x} is noted in the file", path.display())]
    Checksum { path: PathBuf, tensor: String, expected: u32, found: u32 },
    #[error("{} has format version {found}, and this release reads versions up to {}.x: update rustorch to read it", path.display(), Version::CURRENT.major)]
    Newer { path: PathBuf, found: Version },
    /// The caller asks for what cannot be written or read.
    #[error("{0}")]
    Value(String),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}
