//! Ops that put elements in order: sorting and selection along a dimension. Every element becomes
//! an integer key ([`key::Ordered`]); a key and its position are one integer ([`entry::Entry`]), so
//! that whatever orders entries is stable, and NaN, signed zeros and descending order cost nothing.

mod along;
mod entry;
mod key;
mod select;
mod sort;

pub use select::{kth_value, median, mode, topk};
pub use sort::sort;
