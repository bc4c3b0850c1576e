//! Copies and casts between strided views.

use super::f16c;
use super::iterate::Space;
use super::short_rows::ShortRows;
use super::transpose::Transpose;
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::isa::{self, Level};
use crate::lanes::{Vectorised, vectorise_at};
use crate::match_stored;
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task; fixed, so that the thread count never moves a boundary.
const TASK: usize = 32 * 1024;

/// A strided row cast: `(level, count, from, from_stride, to, to_stride)`, strides in elements.
///
/// # Safety
/// Both sides are valid for `count` elements at their strides. They are disjoint or identical.
type CastRow = unsafe fn(Level, usize, *const u8, isize, *mut u8, isize);

/// The row cast between two dtypes.
#[derive(Clone, Copy)]
pub struct Cast {
    pub run: CastRow,
}

impl Cast {
    pub fn new(from: DType, to: DType) -> Result<Self> {
        let run: CastRow = if from == to {
            match from.size() {
                1 => move_row::<u8>,
                2 => move_row::<u16>,
                4 => move_row::<u32>,
                8 => move_row::<u64>,
                _ => move_row::<u128>,
            }
        } else {
            match_stored!(from, From => match_stored!(to, To => cast_row::<From, To>))
        };
        Ok(Self { run })
    }
}

impl Cast {
    /// By way of a half type, to which the values are rounded.
    pub fn rounded(from: DType, half: DType, to: DType) -> Result<Self> {
        let run: CastRow = match (half, to) {
            (DType::F16, DType::F32) => match_stored!(from, From => round_row::<From, half::f16, f32>),
            (DType::BF16, DType::F32) => match_stored!(from, From => round_row::<From, half::bf16, f32>),
            (DType::F16, _) => match_stored!(to, To => round_row::<f32, half::f16, To>),
            (DType::BF16, _) => match_stored!(to, To => round_row::<f32, half::bf16, To>),
            (other, _) => return Error::dtype(other),
        };
        Ok(Self { run })
    }
}

/// See [`CastRow`].
unsafe fn round_row<From: Stored + Through, Half: Stored, To: Stored>(
    level: Level,
    count: usize,
    from: *const u8,
    from_stride: isize,
    to: *mut u8,
    to_stride: isize,
) {
    // SAFETY: the caller's.
    unsafe {
        rows(
            level,
            count,
            from.cast::<From>(),
            from_stride,
            to.cast::<To>(),
            to_stride,
            #[inline(always)]
            |value| To::from_f32(From::Compute::load(value).save::<Half>().to_f32()),
        );
    }
}

/// See [`CastRow`].
unsafe fn move_row<T: Copy>(
    level: Level,
    count: usize,
    from: *const u8,
    from_stride: isize,
    to: *mut u8,
    to_stride: isize,
) {
    // SAFETY: the caller's; u128 is only read and written unaligned.
    unsafe {
        if from_stride == 1 && to_stride == 1 {
            std::ptr::copy(from, to, count * size_of::<T>());
        } else {
            rows(level, count, from.cast::<T>(), from_stride, to.cast::<T>(), to_stride, |value| value);
        }
    }
}

/// See [`CastRow`].
unsafe fn cast_row<From: Stored + Through, To: Stored>(
    level: Level,
    count: usize,
    from: *const u8,
    from_stride: isize,
    to: *mut u8,
    to_stride: isize,
) {
    // SAFETY: the caller's; what is left begins after what was done.
    unsafe {
        let done = match (From::DTYPE, To::DTYPE, from_stride, to_stride) {
            (DType::F32, DType::F16, 1, 1) => f16c::round(level, count, from.cast(), to.cast()),
            (DType::F16, DType::F32, 1, 1) => f16c::widen(level, count, from.cast(), to.cast()),
            _ => 0,
        };
        rows(
            level,
            count - done,
            from.cast::<From>().add(done),
            from_stride,
            to.cast::<To>().add(done),
            to_stride,
            #[inline(always)]
            |value| From::Compute::load(value).save(),
        );
    }
}

/// The type that a cast goes through: wide enough for every value of the source.
trait Through {
    type Compute: Compute;
}
macro_rules! through {
    ($($type:ty: $compute:ty),*) => {$(
        impl Through for $type {
            type Compute = $compute;
        }
    )*};
}
through!(
    u8: i64, i8: i64, i16: i64, i32: i64, i64: i64, crate::element::Bool: i64, f32: f32, f64: f64, half::bf16: f32,
    half::f16: f32
);

#[inline(always)]
unsafe fn rows<From: Copy, To: Copy>(
    level: Level,
    count: usize,
    from: *const From,
    from_stride: isize,
    to: *mut To,
    to_stride: isize,
    convert: impl Fn(From) -> To,
) {
    struct Task<From, To, F> {
        count: usize,
        from: *const From,
        from_stride: isize,
        to: *mut To,
        to_stride: isize,
        convert: F,
    }
    impl<From: Copy, To: Copy, F: Fn(From) -> To> Vectorised for Task<From, To, F> {
        type Output = ();
        #[inline(always)]
        unsafe fn run(self) {
            let Self { count, from, from_stride, to, to_stride, convert } = self;
            // SAFETY: the caller promised `count` elements at these strides on both sides.
            unsafe {
                match (from_stride, to_stride) {
                    (1, 1) => {
                        for index in 0..count {
                            to.add(index).write_unaligned(convert(from.add(index).read_unaligned()));
                        }
                    }
                    (0, 1) => {
                        let value = convert(from.read_unaligned());
                        for index in 0..count {
                            to.add(index).write_unaligned(value);
                        }
                    }
                    _ => {
                        for index in 0..count as isize {
                            let value = from.offset(index * from_stride).read_unaligned();
                            to.offset(index * to_stride).write_unaligned(convert(value));
                        }
                    }
                }
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { vectorise_at(level, Task { count, from, from_stride, to, to_stride, convert }) }
}

/// `[to, from]`: the same shape, any dtypes (complex only to the same dtype).
pub fn launch(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [to, from] = views else {
        return Err(Error::Runtime(format!("expected [to, from], got {} views", views.len())));
    };
    if to.sizes() != from.sizes() {
        return Err(Error::Shape(format!("cannot copy {:?} into {:?}", from.sizes(), to.sizes())));
    }
    let cast = Cast::new(from.dtype(), to.dtype())?;
    let space = Space::of([to, from]);
    let inner = space.inner();
    let level = isa::level();
    // Calls `run` of what moves elements of one type, where there is such a way.
    macro_rules! moved {
        ($way:expr) => {
            if from.dtype() == to.dtype()
                && let Some(way) = $way
            {
                let (target, source) = (to.bytes(), from.bytes().cast_const());
                // SAFETY: both views are valid over the space, and the shim copies what overlaps first.
                unsafe {
                    match to.dtype().size() {
                        1 => way.run(level, target, source),
                        2 => way.run::<u16>(level, target.cast(), source.cast()),
                        4 => way.run::<u32>(level, target.cast(), source.cast()),
                        8 => way.run::<u64>(level, target.cast(), source.cast()),
                        _ => way.run::<u128>(level, target.cast(), source.cast()),
                    }
                }
                return Ok(());
            }
        };
    }
    moved!(Transpose::of(&space));
    moved!(ShortRows::of(&space));
    threads::parallel_chunks(space.numel, TASK, space.numel / 2, |range| {
        space.rows(range.start, range.end, |[to_offset, from_offset], count| {
            let source = from.bytes().wrapping_offset(from_offset * from.dtype().size() as isize);
            let target = to.bytes().wrapping_offset(to_offset * to.dtype().size() as isize);
            // SAFETY: the row is within both views; tasks write disjoint rows.
            unsafe { (cast.run)(level, count, source, inner.strides[1], target, inner.strides[0]) };
        });
    });
    Ok(())
}
