//! The loops that drive every pointwise op, copy and cast over strided views.

pub mod copy;
mod f16c;
pub mod fill;
pub mod foreach;
pub mod iterate;
pub mod pointwise;
mod short_rows;
mod transpose;
