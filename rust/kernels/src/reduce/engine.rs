//! The one reduction loop. Elements are reduced in leaves of fixed size, leaves are combined
//! pairwise, so a sum's error grows with the logarithm of the count and no boundary depends on
//! the thread count.
//!
//! The input is seen as a matrix: columns are kept, rows are reduced. A leaf folds a rectangle of
//! it, either along each column's own elements (the reduced dimension is the denser one) or across
//! many columns at once (a kept dimension is the denser one).

mod folded;

use std::mem::MaybeUninit;
use std::ops::Range;

use smallvec::SmallVec;

use super::source::{Fold, Input, Runs, Source};
use crate::convert::Stored;
use crate::error::{Error, Result};
use crate::fallible::reserved;
use crate::isa::{self, Level};
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy::Cast;
use crate::loops::iterate::{Dim, Space};
use crate::threads;
use crate::view::View;

/// The most columns that are folded at once.
pub const STRIP: usize = 512;
/// Reduced elements of a leaf along a column.
const LEAF_ALONG: usize = 4096;
/// Elements of a task.
const TASK: usize = 64 * 1024;
/// Fewer tasks than this, and the reduced range is cut as well.
const FEW_TASKS: usize = 8;
/// Below this many dense columns, folding across them would leave the lanes empty.
const NARROW: usize = 8;

/// Computed elements that are in memory at a time: a leaf along narrow rows, or across a strip.
const COMPUTED: usize = LEAF_ALONG * NARROW;
/// As many as stay in the first-level cache.
const NEAR: usize = 2 * LEAF_ALONG;

/// A way to reduce elements to one result, or two.
pub trait Reducer: Copy + Send + Sync {
    /// The type in memory.
    type Item: Stored;
    type Acc: Copy + Send;
    type First: Stored;
    type Second: Stored;
    /// Elements must be taken in C order, because a result tells positions.
    const ORDERED: bool = false;
    /// Reduced elements of a leaf across columns, which are taken one after another: at most 64.
    const LEAF_ACROSS: usize = 64;

    /// What nothing reduces to, where that is defined.
    fn empty(&self) -> Option<Self::Acc>;

    /// Reduces one column of `count > 0` elements. Mark it `#[inline(always)]`.
    ///
    /// # Safety
    /// `from` is valid for `count` elements at `stride`.
    unsafe fn along(&self, from: *const Self::Item, stride: isize, count: usize) -> Self::Acc;

    /// Reduces each of at most [`STRIP`] columns of a rectangle with at least one row, into `accs`.
    /// Mark it `#[inline(always)]`.
    ///
    /// # Safety
    /// The rectangle is valid for reading, `accs` for writing one element a column.
    unsafe fn across(&self, rectangle: Rectangle<Self::Item>, accs: *mut Self::Acc);

    /// How a source may fold f32 elements into accumulators of f32.
    fn fold(&self) -> Option<Fold> {
        None
    }

    /// As [`Self::along`] for the last elements of a dense column, fewer than [`LANES`], where the others are
    /// reduced already; only for what has a [`Self::fold`].
    ///
    /// # Safety
    /// `from` is valid for the `count` elements.
    unsafe fn along_from(&self, _others: Self::Acc, _from: *const Self::Item, _count: usize) -> Self::Acc {
        unreachable!("a reducer that does not fold")
    }

    /// Joins the reductions of neighbouring ranges of these many elements.
    fn combine(&self, left: Self::Acc, left_count: usize, right: Self::Acc, right_count: usize) -> Self::Acc;

    /// The results of a reduction over `count` elements; the second is dropped where the op has
    /// one output.
    fn finish(&self, acc: Self::Acc, count: usize) -> (Self::First, Self::Second);
}

/// A matrix in memory.
#[derive(Clone, Copy)]
pub struct Rectangle<T> {
    pub from: *const T,
    pub rows: usize,
    pub row_stride: isize,
    pub columns: usize,
    pub column_stride: isize,
}

struct Leaf<R: Reducer> {
    reducer: R,
    along: bool,
    rectangle: Rectangle<R::Item>,
    accs: *mut R::Acc,
}

impl<R: Reducer> Vectorised for Leaf<R> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { reducer, along, rectangle, accs } = self;
        // SAFETY: the rectangle is within the input and `accs` holds a strip, by the plan.
        unsafe {
            if !along {
                return reducer.across(rectangle, accs);
            }
            for column in 0..rectangle.columns {
                let from = rectangle.from.wrapping_offset(column as isize * rectangle.column_stride);
                accs.add(column).write(reducer.along(from, rectangle.row_stride, rectangle.rows));
            }
        }
    }
}

type Strip<Acc> = [MaybeUninit<Acc>; STRIP];

/// Operands of the kept space: the input, then the two outputs.
struct Plan<'a, R: Reducer> {
    reducer: R,
    level: Level,
    input: Input<'a>,
    outputs: [Option<(&'a View<'a>, Cast)>; 2],
    kept: Space<3>,
    reduced: Space<1>,
    along: bool,
    leaf: usize,
}

/// Reduces `input` into outputs of its rank, whose size is one in the reduced dimensions and the
/// input's in the kept ones.
pub fn reduce<R: Reducer>(reducer: R, outputs: [Option<&View<'_>>; 2], from: Input<'_>) -> Result<()> {
    let input = from.view;
    let Some(shape) = outputs[0].or(outputs[1]) else {
        return Ok(());
    };
    for output in outputs.iter().flatten() {
        check(output, shape, input)?;
    }
    input.expect_dtype("the input", R::Item::DTYPE)?;
    if let (&[count], &[1], [1], [Some(output), None]) = (input.sizes(), shape.sizes(), input.strides(), outputs)
        && (1..=LEAF_ALONG).contains(&(count as usize))
        && from.source.is_none()
    {
        return reduce_line(reducer, output, input, count as usize);
    }
    let (kept, reduced) = spaces(outputs.map(|output| output.unwrap_or(shape)), input, R::ORDERED);
    if kept.numel == 0 {
        return Ok(());
    }
    if reduced.numel == 0 && reducer.empty().is_none() {
        return Err(Error::Shape("a reduction over no elements has no identity".into()));
    }
    let cast = |output: Option<&View<'_>>, from| output.map(|output| Cast::new(from, output.dtype())).transpose();
    let casts = [cast(outputs[0], R::First::DTYPE)?, cast(outputs[1], R::Second::DTYPE)?];
    let [column, row] = [kept.inner(), Dim { size: reduced.inner().size, strides: [reduced.inner().strides[0]; 3] }];
    let along = kept.numel == 1
        || row.strides[0].unsigned_abs() <= column.strides[0].unsigned_abs()
        || (column.size < NARROW && row.size >= NARROW);
    let plan = Plan {
        reducer,
        level: isa::level(),
        input: from,
        outputs: [outputs[0].zip(casts[0]), outputs[1].zip(casts[1])],
        kept,
        reduced,
        along,
        leaf: if along { LEAF_ALONG } else { R::LEAF_ACROSS },
    };
    plan.run();
    Ok(())
}

/// One short dense line, of a single leaf: nothing is to be planned.
fn reduce_line<R: Reducer>(reducer: R, output: &View<'_>, input: &View<'_>, count: usize) -> Result<()> {
    let cast = Cast::new(R::First::DTYPE, output.dtype())?;
    let level = isa::level();
    let mut acc = MaybeUninit::uninit();
    let rectangle = Rectangle { from: input.ptr(), rows: count, row_stride: 1, columns: 1, column_stride: 1 };
    // SAFETY: the line is the whole input; the leaf writes its one accumulator, and the cast the
    // output's one element.
    unsafe {
        vectorise_at(level, Leaf { reducer, along: true, rectangle, accs: acc.as_mut_ptr() });
        let (first, _) = reducer.finish(acc.assume_init(), count);
        (cast.run)(level, 1, (&raw const first).cast(), 1, output.bytes(), 1);
    }
    Ok(())
}

fn check(output: &View<'_>, shape: &View<'_>, input: &View<'_>) -> Result<()> {
    let fits = |(&out, &size): (&i64, &i64)| out == size || out == 1;
    if output.rank() == input.rank()
        && output.sizes() == shape.sizes()
        && output.sizes().iter().zip(input.sizes()).all(fits)
    {
        return Ok(());
    }
    Err(Error::Shape(format!("{:?} is no reduction of {:?} with kept dimensions", output.sizes(), input.sizes())))
}

fn spaces(outputs: [&View<'_>; 2], input: &View<'_>, ordered: bool) -> (Space<3>, Space<1>) {
    let mut kept: [SmallVec<[i64; 6]>; 4] = Default::default();
    let mut reduced: [SmallVec<[i64; 6]>; 2] = Default::default();
    for (dim, (&size, &stride)) in input.sizes().iter().zip(input.strides()).enumerate() {
        if outputs[0].sizes()[dim] == size {
            let values = [size, stride, outputs[0].strides()[dim], outputs[1].strides()[dim]];
            kept.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
        } else {
            reduced.iter_mut().zip([size, stride]).for_each(|(list, value)| list.push(value));
        }
    }
    let [sizes, from, first, second] = &kept;
    let kept = Space::new(sizes, [from, first, second]);
    let [sizes, strides] = &reduced;
    let reduced = if ordered { in_c_order(sizes, strides) } else { Space::new(sizes, [strides]) };
    (kept, reduced)
}

/// As `Space::new`, with the dimensions left in C order.
fn in_c_order(sizes: &[i64], strides: &[i64]) -> Space<1> {
    let numel = sizes.iter().product::<i64>() as usize;
    let mut dims: SmallVec<[Dim<1>; 6]> = SmallVec::new();
    for (&size, &stride) in sizes.iter().zip(strides).rev() {
        match dims.last_mut() {
            Some(last) if stride as isize == last.strides[0] * last.size as isize => last.size *= size as usize,
            _ => dims.push(Dim { size: size as usize, strides: [stride as isize] }),
        }
    }
    if numel == 0 || dims.is_empty() {
        dims = SmallVec::from_slice(&[Dim { size: numel, strides: [1] }]);
    }
    Space { dims, numel }
}

impl<R: Reducer> Plan<'_, R> {
    fn run(&self) {
        let (columns, rows) = (self.kept.numel, self.reduced.numel);
        let work = columns * rows.max(1);
        let computing = self.input.source.map_or(0, |source| source.nanoseconds());
        let nanoseconds = work * R::Item::DTYPE.size() / 12 + computing;
        let widest = TASK / rows.max(1);
        let columns_per_task = if self.along { widest.max(1) } else { widest.max(STRIP) };
        let tasks = columns.div_ceil(columns_per_task);
        if tasks >= FEW_TASKS || work < 4 * TASK || rows < 2 * self.leaf {
            threads::parallel_chunks(columns, columns_per_task, nanoseconds, |range| {
                self.strips(range, |base, offsets, count, _| {
                    let mut accs = [const { MaybeUninit::uninit() }; STRIP];
                    if rows == 0 {
                        accs[..count].fill(MaybeUninit::new(self.reducer.empty().expect("checked before")));
                    } else {
                        self.fold(base, count, 0..rows, &mut accs);
                    }
                    self.write(&accs, count, offsets);
                });
            });
            return;
        }
        self.run_in_parts(columns_per_task, nanoseconds);
    }

    /// Few columns, many rows: the rows are cut as well, into parts whose size the shape decides.
    fn run_in_parts(&self, columns_per_task: usize, nanoseconds: usize) {
        let (columns, rows) = (self.kept.numel, self.reduced.numel);
        let part_rows = (TASK / columns.min(columns_per_task)).max(rows / 64).next_multiple_of(self.leaf);
        let parts = rows.div_ceil(part_rows);
        let tasks = columns.div_ceil(columns_per_task);
        let part_count = |part: usize| part_rows.min(rows - part * part_rows);
        let mut partials: Vec<MaybeUninit<R::Acc>> = reserved(parts * columns);
        // SAFETY: uninitialised elements are what the type allows.
        unsafe { partials.set_len(parts * columns) };
        let shared = Shared(partials.as_mut_ptr());
        threads::parallel(parts * tasks, nanoseconds, |task| {
            let (part, strip) = (task % parts, task / parts);
            let start = strip * columns_per_task;
            let rows = part * part_rows..part * part_rows + part_count(part);
            self.strips(start..(start + columns_per_task).min(columns), |base, _, count, column| {
                let mut accs = [const { MaybeUninit::uninit() }; STRIP];
                self.fold(base, count, rows.clone(), &mut accs);
                // SAFETY: each task writes its own part's columns.
                unsafe { std::ptr::copy(accs.as_ptr(), shared.at(part * columns + column), count) };
            });
        });
        let mut step = 1;
        while step < parts {
            for left in (0..parts - step).step_by(2 * step) {
                let right = left + step;
                let counts = [left..right, right..(right + step).min(parts)].map(|range| range.map(part_count).sum());
                for column in 0..columns {
                    // SAFETY: every partial was written above.
                    let [a, b] = [left, right].map(|part| unsafe { partials[part * columns + column].assume_init() });
                    let joined = self.reducer.combine(a, counts[0], b, counts[1]);
                    partials[left * columns + column].write(joined);
                }
            }
            step *= 2;
        }
        self.strips(0..columns, |_, offsets, count, column| self.write(&partials[column..], count, offsets));
    }

    /// Calls `body(base, offsets, count, first column)` for strips of columns within `range`.
    fn strips(&self, range: Range<usize>, mut body: impl FnMut(*const R::Item, [isize; 3], usize, usize)) {
        let strides = self.kept.inner().strides;
        let mut column = range.start;
        self.kept.rows(range.start, range.end, |offsets, count| {
            let mut done = 0;
            while done < count {
                let width = STRIP.min(count - done);
                let offsets = std::array::from_fn(|at| offsets[at] + done as isize * strides[at]);
                let base = self.input.view.ptr::<R::Item>().cast_const().wrapping_offset(offsets[0]);
                body(base, offsets, width, column);
                done += width;
                column += width;
            }
        });
    }

    /// Folds rows `range` of `columns` columns into the first of `accs`.
    fn fold(&self, base: *const R::Item, columns: usize, range: Range<usize>, accs: &mut Strip<R::Acc>) {
        if range.len() > self.leaf {
            if columns == 1
                && let Some(acc) = self.folded_leaves(base, range.clone())
            {
                accs[0].write(acc);
                return;
            }
            let middle = range.start + (range.len() / 2).next_multiple_of(self.leaf);
            let mut right = [const { MaybeUninit::uninit() }; STRIP];
            self.fold(base, columns, range.start..middle, accs);
            self.fold(base, columns, middle..range.end, &mut right);
            self.join(accs, middle - range.start, &right, range.end - middle, columns);
            return;
        }
        let mut done = 0;
        let row = self.reduced.inner();
        self.reduced.rows(range.start, range.end, |[offset], rows| {
            let rectangle = Rectangle {
                from: base.wrapping_offset(offset),
                rows,
                row_stride: row.strides[0],
                columns,
                column_stride: self.kept.inner().strides[0],
            };
            if done == 0 {
                self.leaf(rectangle, accs);
            } else {
                let mut right = [const { MaybeUninit::uninit() }; STRIP];
                self.leaf(rectangle, &mut right);
                self.join(accs, done, &right, rows, columns);
            }
            done += rows;
        });
    }

    fn leaf(&self, rectangle: Rectangle<R::Item>, accs: &mut Strip<R::Acc>) {
        let accs = accs.as_mut_ptr().cast();
        let Some(source) = self.input.source else {
            // SAFETY: the spaces keep the rectangle within the input; at most a strip of columns.
            return unsafe { self.folded(rectangle, accs) };
        };
        let done = match self.reducer.fold() {
            Some(fold) if self.along && self.folded_along(source, fold, rectangle, accs) => rectangle.columns,
            Some(_) if self.along => 0,
            Some(fold) => self.folded_across(source, fold, rectangle, accs),
            None => 0,
        };
        if done < rectangle.columns {
            let from = rectangle.from.wrapping_offset(done as isize * rectangle.column_stride);
            let rest = Rectangle { from, columns: rectangle.columns - done, ..rectangle };
            self.computed_leaf(source, rest, accs.wrapping_add(done));
        }
    }

    /// The place of a rectangle's first element in the source.
    fn first(&self, rectangle: &Rectangle<R::Item>) -> usize {
        (rectangle.from.addr() - self.input.view.bytes().addr()) / size_of::<R::Item>()
    }

    /// # Safety
    /// As for [`Reducer::across`].
    unsafe fn folded(&self, rectangle: Rectangle<R::Item>, accs: *mut R::Acc) {
        // SAFETY: passed on.
        unsafe { vectorise_at(self.level, Leaf { reducer: self.reducer, along: self.along, rectangle, accs }) }
    }

    /// A leaf whose elements are computed first, some columns at a time. They are folded in the order in
    /// which they would be read, so the result has the bits of a reduction of memory.
    /// Not inlined: the block is to be on the stack once, not in each turn of `fold`.
    #[inline(never)]
    fn computed_leaf(&self, source: &dyn Source, rectangle: Rectangle<R::Item>, accs: *mut R::Acc) {
        let mut block = [const { MaybeUninit::<R::Item>::uninit() }; COMPUTED];
        let Rectangle { rows, row_stride, columns, column_stride, .. } = rectangle;
        let first = self.first(&rectangle);
        let (row_step, column_step) = (row_stride as usize, column_stride as usize);
        let is_side_by_side = column_step == 1 && row_step != 1;
        let width = match (is_side_by_side, row_step) {
            (true, _) => COMPUTED / rows,
            (false, 1) => NEAR / rows,
            _ => 1,
        };
        let mut done = 0;
        while done < columns {
            let columns = width.clamp(1, columns - done);
            let start = first + done * column_step;
            // The elements as the source gives them, and as a rectangle of the block.
            let (runs, row_stride, column_stride) = if is_side_by_side {
                (Runs { start, length: columns, count: rows, step: row_step }, columns as isize, 1)
            } else if row_step == 1 {
                (Runs { start, length: rows, count: columns, step: column_step }, 1, rows as isize)
            } else {
                (Runs { start, length: 1, count: rows, step: row_step }, 1, 1)
            };
            let part = if source.is_stored() {
                let from = rectangle.from.wrapping_add(done * column_step);
                Rectangle { from, columns, ..rectangle }
            } else {
                Rectangle { from: block.as_ptr().cast(), rows, row_stride, columns, column_stride }
            };
            let to = (!source.is_stored()).then_some(block.as_mut_ptr().cast());
            // SAFETY: the runs are within the input and fit the block: a leaf has at most `LEAF_ALONG`
            // rows and `NARROW` dense columns, or `LEAF_ACROSS` rows and a strip, or is cut to fit.
            unsafe {
                source.compute(runs, to);
                self.folded(part, accs.wrapping_add(done));
            }
            done += columns;
        }
    }

    fn join(
        &self,
        left: &mut Strip<R::Acc>,
        left_count: usize,
        right: &Strip<R::Acc>,
        right_count: usize,
        columns: usize,
    ) {
        for (left, right) in left.iter_mut().zip(right).take(columns) {
            // SAFETY: both strips were folded into, `columns` wide.
            let (a, b) = unsafe { (left.assume_init(), right.assume_init()) };
            left.write(self.reducer.combine(a, left_count, b, right_count));
        }
    }

    /// Finishes `count` accumulators and casts them to the outputs.
    fn write(&self, accs: &[MaybeUninit<R::Acc>], count: usize, offsets: [isize; 3]) {
        let mut first = [const { MaybeUninit::<R::First>::uninit() }; STRIP];
        let mut second = [const { MaybeUninit::<R::Second>::uninit() }; STRIP];
        for (at, acc) in accs[..count].iter().enumerate() {
            // SAFETY: the caller folded `count` accumulators.
            let results = self.reducer.finish(unsafe { acc.assume_init() }, self.reduced.numel);
            first[at].write(results.0);
            second[at].write(results.1);
        }
        let buffers: [*const u8; 2] = [first.as_ptr().cast(), second.as_ptr().cast()];
        for (at, output) in self.outputs.iter().enumerate() {
            let Some((view, cast)) = output else { continue };
            let to = view.bytes().wrapping_offset(offsets[at + 1] * view.dtype().size() as isize);
            // SAFETY: the strip is within the output; each strip is written by one task.
            unsafe { (cast.run)(self.level, count, buffers[at], 1, to, self.kept.inner().strides[at + 1]) };
        }
    }
}

/// A pointer that tasks share, each writing its own part.
pub struct Shared<T>(pub *mut T);

// SAFETY: whoever writes through it keeps the parts disjoint.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}
