//! What is distinct among all elements, or among the slices along a dimension.

use super::entry::{Entry, match_entry, sort_entries};
use super::key::Ordered;
use crate::dtype::DType;
use crate::error::Result;
use crate::fallible::Collected;
use crate::index::{contiguous_strides, expect, offset_of};
use crate::loops::iterate::Space;
use crate::match_stored;
use crate::scratch::Scratch;
use crate::view::{Attrs, View};

/// `[count (one i64), first, inverse?, counts?, self]`, all but self i64 and 1-D, as long as there
/// are slices; ints `[dim (-1: every element is a slice), consecutive]`.
///
/// Writes how many slices are distinct, and for each of these, in order, where it is first and how
/// often it occurs; `inverse` says which of them each slice is. `consecutive` compares neighbours
/// only and keeps their order. A slice with a NaN is like no other.
pub fn unique(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [count, first, inverse, counts, from] = expect(views)?;
    count.expect_dtype("count", DType::I64)?;
    let (dim, consecutive) = (attrs.int(0), attrs.flag(1));
    let slices = if dim < 0 { from.numel() } else { from.size(dim as usize) };
    for (name, view) in [("first", &first), ("inverse", &inverse), ("counts", &counts)] {
        if let Some(view) = view.optional() {
            view.expect_dtype(name, DType::I64)?;
            view.expect_sizes(name, &[slices])?;
        }
    }
    if slices == 0 {
        // SAFETY: the count is one i64.
        unsafe { *count.ptr::<i64>() = 0 };
        return Ok(());
    }
    let mut found = Found { first, inverse: inverse.optional(), counts: counts.optional(), distinct: 0 };
    let width = from.numel() / slices;
    let is_few = dim >= 0 && !consecutive && slices <= FEW;
    match_stored!(from.dtype(), S => if width == 1 && !is_few {
        match_entry!(S, slices, E => {
            let memory = Scratch::<E>::new(2 * slices)?;
            let entries = element_entries::<S, E>(&from, memory.ptr());
            if !consecutive {
                // SAFETY: the memory is twice as long as the entries.
                sort_entries(entries, unsafe { memory.ptr().add(slices) }, S::KEY_BITS);
            }
            let same = |a: &E, b: &E| a.key() == b.key() && !S::is_nan_key(a.key());
            for run in entries.chunk_by(same) {
                found.add(run.iter().map(|entry| entry.position()));
            }
        });
    } else {
        let keys = slice_keys::<S>(&from, dim as usize, slices, width);
        let slice = |at: usize| &keys[at * width..][..width];
        let mut order: Vec<usize> = (0..slices).collected();
        if is_few {
            insertion_sort(&mut order, |a, b| is_less::<S>(slice(a), slice(b)));
        } else if !consecutive {
            // Equal slices in their order, without the memory that a stable sort takes.
            order.sort_unstable_by(|&a, &b| slice(a).cmp(slice(b)).then(a.cmp(&b)));
        }
        let same = |&a: &usize, &b: &usize| slice(a) == slice(b) && !slice(a).iter().any(|&key| S::is_nan_key(key));
        for run in order.chunk_by(same) {
            found.add(run.iter().copied());
        }
    });
    // SAFETY: the count is one i64.
    unsafe { *count.ptr::<i64>() = found.distinct as i64 };
    Ok(())
}

/// So many slices C++'s `std::sort` sorts by insertion, by which PyTorch's CPU orders those with NaN.
const FEW: usize = 16;

/// As PyTorch's CPU compares slices: what is beside a NaN decides nothing. That is no order, so of more slices than
/// [`FEW`] the CPU's own depends on the rest, and here NaN is the largest.
fn is_less<S: Ordered>(a: &[u64], b: &[u64]) -> bool {
    let decides = |(a, b): &(&u64, &u64)| !S::is_nan_key(**a) && !S::is_nan_key(**b) && a != b;
    a.iter().zip(b).find(decides).is_some_and(|(a, b)| a < b)
}

/// Whatever `is_less` says of each two.
fn insertion_sort(order: &mut [usize], is_less: impl Fn(usize, usize) -> bool) {
    for end in 1..order.len() {
        // What is before all goes there at once, and is not held against those between.
        if is_less(order[end], order[0]) {
            order[..=end].rotate_right(1);
            continue;
        }
        let mut at = end;
        while at > 0 && is_less(order[at], order[at - 1]) {
            order.swap(at, at - 1);
            at -= 1;
        }
    }
}

struct Found<'a> {
    first: View<'a>,
    inverse: Option<&'a View<'a>>,
    counts: Option<&'a View<'a>>,
    distinct: usize,
}

impl Found<'_> {
    /// Slices that are the same; the first of them comes first.
    fn add(&mut self, mut run: impl ExactSizeIterator<Item = usize> + Clone) {
        // SAFETY: slices and the distinct ones are as many as the outputs' elements at most.
        let set = |view: &View<'_>, at: usize, value: usize| unsafe {
            *view.ptr::<i64>().wrapping_offset(at as isize * view.stride(0)) = value as i64;
        };
        if let Some(counts) = self.counts {
            set(counts, self.distinct, run.len());
        }
        if let Some(inverse) = self.inverse {
            run.clone().for_each(|slice| set(inverse, slice, self.distinct));
        }
        if let Some(slice) = run.next() {
            set(&self.first, self.distinct, slice);
        }
        self.distinct += 1;
    }
}

/// Every element's entry, in C order, in `memory`, which has room for them.
fn element_entries<'a, S: Ordered, E: Entry>(from: &View<'_>, memory: *mut E) -> &'a mut [E] {
    let space = Space::new(from.sizes(), [&contiguous_strides(from.sizes()), from.strides()]);
    let inner = space.inner().strides;
    space.rows(0, space.numel, |[to, source], count| {
        for at in 0..count as isize {
            let position = (to + at * inner[0]) as usize;
            // SAFETY: the row is within the view, and the positions are those of the elements.
            unsafe {
                let value = *from.ptr::<S>().wrapping_offset(source + at * inner[1]);
                memory.add(position).write(E::new(value.key(), position));
            }
        }
    });
    // SAFETY: every entry was written.
    unsafe { std::slice::from_raw_parts_mut(memory, space.numel) }
}

/// The keys of every slice's elements, slice after slice.
fn slice_keys<S: Ordered>(from: &View<'_>, dim: usize, slices: usize, width: usize) -> Vec<u64> {
    let mut sizes = from.sizes().to_vec();
    sizes[dim] = 1;
    // SAFETY: one slice of the view.
    let one = unsafe { from.reshaped(0, &sizes, from.strides()) };
    let offsets: Vec<isize> = (0..width).map(|at| offset_of(&one, at)).collected();
    let start = |slice: usize| slice as isize * from.stride(dim);
    (0..slices)
        .flat_map(|slice| offsets.iter().map(move |offset| start(slice) + offset))
        // SAFETY: an element of the view.
        .map(|offset| unsafe { *from.ptr::<S>().wrapping_offset(offset) }.key())
        .collected()
}
