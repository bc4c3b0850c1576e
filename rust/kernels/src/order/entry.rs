//! A key with its position as one integer, and sorting by it: small lines by comparison, long ones
//! by counting their digits.

use super::along::Line;
use super::key::Ordered;

/// The key above, the position below: an order of entries is stable, as no two are equal.
pub(super) trait Entry: Copy + Ord + Send + Sync + 'static {
    /// The last of all.
    const LAST: Self;
    fn new(key: u64, position: usize) -> Self;
    fn key(self) -> u64;
    fn position(self) -> usize;
}

/// Keys of up to 32 bits, on lines shorter than 2^32.
impl Entry for u64 {
    const LAST: Self = u64::MAX;
    #[inline(always)]
    fn new(key: u64, position: usize) -> Self {
        (key << 32) | position as u64
    }
    #[inline(always)]
    fn key(self) -> u64 {
        self >> 32
    }
    #[inline(always)]
    fn position(self) -> usize {
        self as u32 as usize
    }
}

impl Entry for u128 {
    const LAST: Self = u128::MAX;
    #[inline(always)]
    fn new(key: u64, position: usize) -> Self {
        ((key as u128) << 64) | position as u128
    }
    #[inline(always)]
    fn key(self) -> u64 {
        (self >> 64) as u64
    }
    #[inline(always)]
    fn position(self) -> usize {
        self as u64 as usize
    }
}

/// Calls `$body` with `$entry` bound to the smallest entry for elements of `$type` on lines of
/// `$length`.
macro_rules! match_entry {
    ($type:ty, $length:expr, $entry:ident => $body:expr) => {
        if <$type as $crate::order::key::Ordered>::KEY_BITS <= 32 && $length < u32::MAX as usize {
            type $entry = u64;
            $body
        } else {
            type $entry = u128;
            $body
        }
    };
}
pub(super) use match_entry;

/// The entries of a line in `memory`, in the line's order. `reverse` is zero, or the type's
/// `REVERSE` for the descending order.
///
/// # Safety
/// The line has `length` elements, and `memory` room for as many entries.
#[inline(always)]
pub(super) unsafe fn entries_of<'a, S: Ordered, E: Entry>(
    line: Line<S>,
    length: usize,
    reverse: u64,
    memory: *mut E,
) -> &'a mut [E] {
    // SAFETY: the caller's; every entry is written before the slice is made.
    unsafe {
        for position in 0..length {
            memory.add(position).write(E::new(line.get(position).key() ^ reverse, position));
        }
        std::slice::from_raw_parts_mut(memory, length)
    }
}

/// Bits of a digit.
const DIGIT: u32 = 8;
const VALUES: usize = 1 << DIGIT;
/// Lines that are shorter are sorted by comparison.
const FEWEST: usize = 512;

/// Sorts entries whose keys have `bits` bits; `spare` has room for as many.
pub(super) fn sort_entries<E: Entry>(entries: &mut [E], spare: *mut E, bits: u32) {
    if entries.len() < FEWEST {
        entries.sort_unstable();
        return;
    }
    if entries.is_sorted() {
        return;
    }
    let digits = bits.div_ceil(DIGIT) as usize;
    let mut counts = [[0usize; VALUES]; 8];
    let digit = |entry: E, at: usize| (entry.key() >> (at as u32 * DIGIT)) as usize % VALUES;
    for &entry in entries.iter() {
        for (at, counts) in counts[..digits].iter_mut().enumerate() {
            counts[digit(entry, at)] += 1;
        }
    }
    let (mut from, mut to) = (entries.as_mut_ptr(), spare);
    for (at, counts) in counts[..digits].iter_mut().enumerate() {
        // A digit that all keys share orders nothing.
        if counts.contains(&entries.len()) {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        // SAFETY: both have room for the entries, and every count is a place of its own below
        // their number.
        unsafe {
            for position in 0..entries.len() {
                let entry = *from.add(position);
                let place = counts.get_unchecked_mut(digit(entry, at));
                *to.add(*place) = entry;
                *place += 1;
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
    if from.cast_const() != entries.as_ptr() {
        // SAFETY: the spare room holds every entry, and is apart from the slice.
        unsafe { from.copy_to_nonoverlapping(entries.as_mut_ptr(), entries.len()) };
    }
}
