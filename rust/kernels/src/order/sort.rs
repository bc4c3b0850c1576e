//! Sorting along a dimension.

use super::along::Along;
use super::entry::{Entry, entries_of, match_entry, sort_entries};
use super::key::Ordered;
use super::select::checked;
use crate::error::{Error, Result};
use crate::match_stored;
use crate::scratch::Scratch;
use crate::view::{Attrs, View};

/// What a comparison sort costs an element, in nanoseconds.
const EACH: usize = 15;

/// `[values, indices (i64), self]` of one shape, ints `[dim, descending]`: stable, NaN above all
/// else. The values are apart from `self`.
pub fn sort(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [values, indices, from] = checked(views)?;
    let along = Along::new([&values, &indices, &from], attrs.int(0))?;
    let length = along.lengths[2];
    if along.lengths != [length; 3] {
        return Err(Error::Shape(format!("cannot sort {from:?} into {values:?} and {indices:?}")));
    }
    match_stored!(from.dtype(), S => match_entry!(S, length, E => {
        let reverse = if attrs.flag(1) { S::REVERSE } else { 0 };
        along.for_each(EACH, 2 * length, |offsets, memory: &Scratch<E>| {
            let line = along.line::<S>(&from, 2, offsets);
            let (values, indices) = (along.line::<S>(&values, 0, offsets), along.line::<i64>(&indices, 1, offsets));
            // SAFETY: the memory is two lines of entries; the outputs' lines are as long.
            unsafe {
                let entries = entries_of(line, length, reverse, memory.ptr());
                sort_entries(entries, memory.ptr().add(length), S::KEY_BITS);
                for (place, entry) in entries.iter().enumerate() {
                    let value = S::from_key(entry.key() ^ reverse).unwrap_or_else(|| line.get(entry.position()));
                    values.set(place, value);
                    indices.set(place, entry.position() as i64);
                }
            }
        })
    }))
}
