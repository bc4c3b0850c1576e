//! The element of a rank, the first few, and the most frequent, along a dimension.

use super::along::Along;
use super::entry::{Entry, entries_of, match_entry, sort_entries};
use super::key::Ordered;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::index::expect;
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::match_stored;
use crate::scratch::Scratch;
use crate::view::{Attrs, View};

/// What selection costs an element, in nanoseconds.
const EACH: usize = 4;
/// What sorting does.
const EACH_SORTED: usize = 15;

/// `[values, indices (i64), self]`, ints `[dim, largest]`: as many of the first elements of the
/// order as the outputs hold, in order; of equal ones, those that come first.
pub fn topk(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [values, indices, from] = checked(views)?;
    let along = Along::new([&values, &indices, &from], attrs.int(0))?;
    let [count, own, length] = along.lengths;
    if own != count || count > length {
        return Err(Error::Runtime(format!("cannot take the first {count} of {length} elements")));
    }
    if count == 0 {
        return Ok(());
    }
    match_stored!(from.dtype(), S => match_entry!(S, length, E => {
        let reverse = if attrs.flag(1) { S::REVERSE } else { 0 };
        let level = isa::level();
        along.for_each(EACH, 2 * count, |offsets, memory: &Scratch<E>| {
            let line = along.line::<S>(&from, 2, offsets);
            let (values, indices) = (along.line::<S>(&values, 0, offsets), along.line::<i64>(&indices, 1, offsets));
            // SAFETY: the memory holds twice the count; positions are below the line's length, and
            // places below the outputs'.
            unsafe {
                let entry = |position: usize| E::new(line.get(position).key() ^ reverse, position);
                // Of a dense line, what is not below the bound is passed over by vectors.
                let elements = line.dense(length);
                let next = |from: usize, bound: E| match elements {
                    Some(elements) => vectorise_at(level, Below { elements, from, bound: bound.key(), reverse }),
                    None => from,
                };
                let first = first_entries(length, count, entry, next, memory.ptr());
                for (place, entry) in first.iter().enumerate() {
                    values.set(place, line.get(entry.position()));
                    indices.set(place, entry.position() as i64);
                }
            }
        })
    }))
}

/// Elements that are looked at together.
const STRETCH: usize = 64;

/// The start of the next stretch of a line with a key below a bound, or the line's end.
struct Below<'a, S> {
    elements: &'a [S],
    from: usize,
    bound: u64,
    reverse: u64,
}

impl<S: Ordered> Vectorised for Below<'_, S> {
    type Output = usize;
    #[inline(always)]
    unsafe fn run(self) -> usize {
        let Self { elements, mut from, bound, reverse } = self;
        while let Some(stretch) = elements.get(from..from + STRETCH) {
            // Counted, not looked for: so the compiler makes vectors of it.
            let below: u32 = stretch.iter().map(|element| u32::from((element.key() ^ reverse) < bound)).sum();
            if below > 0 {
                break;
            }
            from += STRETCH;
        }
        from
    }
}

/// The `count` first of `length` entries, sorted, in `memory`. What is not below the last of those
/// that were kept is passed over; the others are collected until they are twice as many. `next` gives a position
/// from which on there may be an entry below a bound, the given one or a later one.
///
/// # Safety
/// `memory` has room for twice the count.
#[inline(always)]
unsafe fn first_entries<'a, E: Entry>(
    length: usize,
    count: usize,
    entry: impl Fn(usize) -> E,
    next: impl Fn(usize, E) -> usize,
    memory: *mut E,
) -> &'a mut [E] {
    let mut held = 0;
    let mut bound = E::LAST;
    let mut position = 0;
    // Until there is a bound, all are kept.
    while position < length {
        if bound != E::LAST {
            position = next(position, bound);
        }
        let end = length.min(position + STRETCH);
        for position in position..end {
            let entry = entry(position);
            if entry < bound {
                // SAFETY: `held < 2 * count`, which the memory holds; the entries below are written.
                unsafe {
                    memory.add(held).write(entry);
                    held += 1;
                    if held == 2 * count {
                        let all = std::slice::from_raw_parts_mut(memory, held);
                        bound = *all.select_nth_unstable(count - 1).1;
                        held = count;
                    }
                }
            }
        }
        position = end;
    }
    // SAFETY: that many entries are written.
    let all = unsafe { std::slice::from_raw_parts_mut(memory, held) };
    if held > count {
        all.select_nth_unstable(count - 1);
    }
    let first = &mut all[..count];
    first.sort_unstable();
    first
}

/// Picks one entry of a line.
trait Choice: Sync {
    const EACH: usize;
    /// The position of the chosen element; `spare` has room for as many entries.
    fn choose<S: Ordered, E: Entry>(&self, entries: &mut [E], spare: *mut E) -> usize;
}

/// `[value, index (i64), self]`, the outputs of size one in `dim`; ints `[dim, k]`: the element of
/// rank `k`, counted from one.
pub fn kth_value(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    struct Kth(i64);
    impl Choice for Kth {
        const EACH: usize = EACH;
        fn choose<S: Ordered, E: Entry>(&self, entries: &mut [E], _: *mut E) -> usize {
            entries.select_nth_unstable((self.0 - 1) as usize).1.position()
        }
    }
    let k = attrs.int(1);
    choose_in_lines(views, attrs.int(0), Kth(k), |length| (1..=length as i64).contains(&k))
}

/// `[value, index (i64), self]` as kth_value, ints `[dim, ignore_nan]`: the lower of the two middle
/// elements; the first NaN where there is one, or the median of the others.
pub fn median(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    struct Median {
        ignore_nan: bool,
    }
    impl Choice for Median {
        const EACH: usize = EACH;
        fn choose<S: Ordered, E: Entry>(&self, entries: &mut [E], _: *mut E) -> usize {
            let is_nan = |entry: &&mut E| S::is_nan_key(entry.key());
            let length = entries.len();
            let rank = if self.ignore_nan {
                let numbers = length - entries.iter_mut().filter(is_nan).count();
                numbers.saturating_sub(1) / 2
            } else {
                if let Some(first) = entries.iter_mut().find(is_nan) {
                    return first.position();
                }
                (length - 1) / 2
            };
            entries.select_nth_unstable(rank).1.position()
        }
    }
    choose_in_lines(views, attrs.int(0), Median { ignore_nan: attrs.flag(1) }, |length| length > 0)
}

/// `[value, index (i64), self]` as kth_value, ints `[dim]`: the most frequent element, the smallest
/// of several, and where it is last. Each NaN is an element of its own.
pub fn mode(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    struct Mode;
    impl Choice for Mode {
        const EACH: usize = EACH_SORTED;
        fn choose<S: Ordered, E: Entry>(&self, entries: &mut [E], spare: *mut E) -> usize {
            sort_entries(entries, spare, S::KEY_BITS);
            let same = |a: &E, b: &E| a.key() == b.key() && !S::is_nan_key(a.key());
            let (mut most, mut position) = (0, 0);
            for run in entries.chunk_by(same) {
                if run.len() > most {
                    most = run.len();
                    position = run[most - 1].position();
                }
            }
            position
        }
    }
    choose_in_lines(views, attrs.int(0), Mode, |length| length > 0)
}

fn choose_in_lines<C: Choice>(views: &[View<'_>], dim: i64, choice: C, fits: impl Fn(usize) -> bool) -> Result<()> {
    let [values, indices, from] = checked(views)?;
    let along = Along::new([&values, &indices, &from], dim)?;
    let [1, 1, length] = along.lengths else {
        return Err(Error::Shape(format!("expected one element a line, got {values:?} and {indices:?}")));
    };
    if !fits(length) {
        return Err(Error::Runtime(format!("no element to choose among {length}")));
    }
    match_stored!(from.dtype(), S => match_entry!(S, length, E => {
        along.for_each(C::EACH, 2 * length, |offsets, memory: &Scratch<E>| {
            let line = along.line::<S>(&from, 2, offsets);
            let (value, index) = (along.line::<S>(&values, 0, offsets), along.line::<i64>(&indices, 1, offsets));
            // SAFETY: the memory is two lines of entries; positions are below the line's length.
            unsafe {
                let entries = entries_of(line, length, 0, memory.ptr());
                let chosen = choice.choose::<S, E>(entries, memory.ptr().add(length));
                value.set(0, line.get(chosen));
                index.set(0, chosen as i64);
            }
        })
    }))
}

/// Values, indices, self.
pub(super) fn checked<'a>(views: &[View<'a>]) -> Result<[View<'a>; 3]> {
    let [values, indices, from] = expect(views)?;
    values.expect_dtype("values", from.dtype())?;
    indices.expect_dtype("indices", DType::I64)?;
    Ok([values, indices, from])
}
