//! Ops that put elements in order: sorting and selection along a dimension. Every element becomes
//! an integer key ([`key::Ordered`]); a key and its position are one integer ([`entry::Entry`]), so
//! that whatever orders entries is stable, and NaN, signed zeros and descending order cost nothing.
//! And ops that look values up in an order.

mod along;
mod entry;
mod histogram;
mod key;
mod search;
mod select;
mod sort;
mod unique;

pub use histogram::histogram;
pub use search::{isin, searchsorted};
pub use select::{kth_value, median, mode, topk};
pub use sort::sort;
pub use unique::unique;
