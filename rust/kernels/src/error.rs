//! What a kernel can refuse, and as which Python exception it arrives.

use crate::dtype::DType;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal. Kernels check before they write; `launch` adds the op, shapes and dtypes to the text.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("index {index} is out of bounds for dimension {dim} with size {size}")]
    Index { index: i64, dim: usize, size: i64 },
    #[error("out of range: tried to access index {index} on a tensor of {elements} elements.")]
    OutOfRange { index: i64, elements: i64 },
    #[error("Target {0} is out of bounds.")]
    Target(i64),
    #[error("{0}")]
    Shape(String),
    #[error("not implemented for '{dtype}'")]
    DType { dtype: DType },
    #[error("{0}")]
    Value(String),
    #[error("{0}")]
    Runtime(String),
    #[error("ZeroDivisionError")]
    ZeroDivision,
    #[error("rustorch out of memory. Tried to allocate {bytes} bytes")]
    OutOfMemory { bytes: usize },
    #[error("a Rust kernel panicked: {0}. This is a bug in rustorch; please report it")]
    Panic(String),
    /// An error with its op, shapes and dtypes added.
    #[error("{source} ({context})")]
    In { source: Box<Error>, context: String },
}

/// The exception that an error becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Runtime,
    Index,
    Value,
    NotImplemented,
    OutOfMemory,
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Index { .. } | Self::OutOfRange { .. } | Self::Target(_) => Kind::Index,
            Self::Value(_) => Kind::Value,
            Self::DType { .. } => Kind::NotImplemented,
            Self::OutOfMemory { .. } => Kind::OutOfMemory,
            Self::Shape(_) | Self::Runtime(_) | Self::ZeroDivision | Self::Panic(_) => Kind::Runtime,
            Self::In { source, .. } => source.kind(),
        }
    }

    pub fn dtype<T>(dtype: DType) -> Result<T> {
        Err(Self::DType { dtype })
    }

    /// What a caught panic says; an error that was unwound with is itself (`fallible`).
    pub fn from_panic(payload: Box<dyn std::any::Any + Send>) -> Self {
        let payload = match payload.downcast::<Self>() {
            Ok(error) => return *error,
            Err(payload) => payload,
        };
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| text.to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_string());
        Self::Panic(text)
    }
}
