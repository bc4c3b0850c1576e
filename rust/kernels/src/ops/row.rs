//! What a row of the table is made of.

use std::mem::MaybeUninit;

use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::compiled_for;
use crate::ops::flops::Flops;
use crate::trace::Trace;
use crate::view::{Attrs, View};

/// One op.
pub struct Row {
    pub name: &'static str,
    pub entry: Entry,
    pub outputs: Outputs,
    /// An output may be the very tensor that an input is.
    pub in_place: bool,
    /// Draws from the generator: `ints[0]` is the seed and `ints[1]` the offset.
    pub random: bool,
    /// What a profile counts.
    pub flops: Flops,
}

pub enum Entry {
    /// Broadcast, cast and looped over by `loops::pointwise`.
    Pointwise(&'static dyn Expression),
    /// Its own file.
    Kernel(fn(&[View<'_>], &Attrs<'_>) -> Result<()>),
}

/// How many of a launch's first views the op writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    Count(usize),
    /// As many as `ints[0]` says (lists of tensors).
    FirstInt,
}

impl Outputs {
    pub fn count(self, attrs: &Attrs<'_>) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::FirstInt => attrs.ints.first().and_then(|&count| usize::try_from(count).ok()),
        }
    }
}

/// Scalars of a pointwise op, in the compute type.
pub const SCALARS: usize = 4;
/// The most inputs that a pointwise op has.
pub const INPUTS: usize = 4;

/// The scalars of a launch as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scalars {
    pub floats: [f64; SCALARS],
    pub ints: [i64; SCALARS],
}

impl Scalars {
    /// The first scalars of a launch; missing ones are zero.
    #[inline(always)]
    pub fn of(ints: &[i64], floats: &[f64]) -> Self {
        let mut scalars = Self::default();
        for (to, &from) in scalars.ints.iter_mut().zip(ints) {
            *to = from;
        }
        for (to, &from) in scalars.floats.iter_mut().zip(floats) {
            *to = from;
        }
        scalars
    }
}

/// A scalar expression compiled for one compute type: a loop over dense blocks.
#[derive(Clone, Copy)]
pub struct Block {
    pub arity: usize,
    /// The type of the inputs.
    pub input: DType,
    /// The type of the result: `input`, or bool for tests.
    pub output: DType,
    /// The half type, if any, that operands are rounded to before, and the result (not a test's) after.
    pub half: Option<DType>,
    /// Of a half type, a second input of one element is not rounded.
    pub keeps_number: bool,
    /// # Safety
    /// The first `arity` inputs are valid for reading `count` elements of `input`, and the output
    /// for writing `count` elements of `output`. The output may be the same as an input.
    pub run: unsafe fn(level: Level, count: usize, inputs: [*const u8; INPUTS], output: *mut u8, scalars: &Scalars),
}

/// A row's expression: gives the block loop for a compute type, where the row has that type.
pub trait Expression: Sync {
    fn block(&self, compute: DType) -> Option<Block>;
    /// The expression as data, over the same type; None for one that is opaque.
    fn trace(&self, compute: DType) -> Option<&'static Trace>;
    /// Why it has no trace.
    fn opaque(&self) -> Option<&'static str>;
    /// Whether a zero in an integer second input is refused.
    fn divides(&self) -> bool;
    /// See [`Block::keeps_number`].
    fn keeps_number(&self) -> bool;
}

/// The block loop of an expression over operands of the common dtype `compute`.
pub fn block_over(expression: &dyn Expression, compute: DType) -> Option<Block> {
    let block = expression.block(compute.compute())?;
    let half = (compute != compute.compute()).then_some(compute);
    Some(Block { half, keeps_number: expression.keeps_number(), ..block })
}

/// The expression of a row over `T`, as the table's macro writes it, and the loop over a block.
pub trait Apply<T: Compute, const ARITY: usize>: Sized {
    type Out: Stored;
    fn apply(inputs: [T; ARITY], scalars: [T; SCALARS]) -> Self::Out;
    /// Whether `apply` is not good enough for these inputs.
    #[inline(always)]
    fn is_rare(_inputs: [T; ARITY]) -> bool {
        false
    }
    /// The slower expression for rare inputs; it need not be vectorised.
    fn apply_rare(inputs: [T; ARITY], scalars: [T; SCALARS]) -> Self::Out {
        Self::apply(inputs, scalars)
    }

    /// # Safety
    /// The inputs are valid for reading `count` elements, the output for writing as many; so for
    /// its forms for a level, where the CPU has that level. Why they are methods:
    /// [`crate::lanes::Kernel`].
    #[inline(always)]
    unsafe fn run(count: usize, inputs: [*const T; ARITY], output: *mut Self::Out, scalars: [T; SCALARS]) {
        // SAFETY: each group and element lies below `count`.
        unsafe {
            let mut done = 0;
            while done + WIDE <= count {
                let inputs = inputs.map(|input| input.add(done));
                Self::group::<WIDE>(inputs, output.add(done), scalars);
                done += WIDE;
            }
            while done + NARROW <= count {
                Self::group::<NARROW>(inputs.map(|input| input.add(done)), output.add(done), scalars);
                done += NARROW;
            }
            for index in done..count {
                let values = inputs.map(|input| *input.add(index));
                *output.add(index) = Self::careful(values, scalars);
            }
        }
    }

    /// So many elements, all of which are read before one is written: the compiler makes vectors of them,
    /// in place too, and keeps the results in registers.
    ///
    /// # Safety
    /// The pointers are valid for `SIZE` elements.
    #[inline(always)]
    unsafe fn group<const SIZE: usize>(inputs: [*const T; ARITY], output: *mut Self::Out, scalars: [T; SCALARS]) {
        // SAFETY: every index is below `SIZE`; the output takes as many elements.
        unsafe {
            let values = |index: usize| inputs.map(|input| *input.add(index));
            let mut rare = false;
            for index in 0..SIZE {
                rare |= Self::is_rare(values(index));
            }
            if rare {
                for index in 0..SIZE {
                    *output.add(index) = Self::careful(values(index), scalars);
                }
                return;
            }
            let mut results = [MaybeUninit::<Self::Out>::uninit(); SIZE];
            for (index, result) in results.iter_mut().enumerate() {
                result.write(Self::apply(values(index), scalars));
            }
            output.cast::<[MaybeUninit<Self::Out>; SIZE]>().write_unaligned(results);
        }
    }

    /// One element, by the slower expression where it is rare.
    #[inline(always)]
    fn careful(values: [T; ARITY], scalars: [T; SCALARS]) -> Self::Out {
        if Self::is_rare(values) { Self::apply_rare(values, scalars) } else { Self::apply(values, scalars) }
    }

    compiled_for! { avx512
        /// # Safety
        /// As for `run`.
        unsafe fn run_avx512(count: usize, inputs: [*const T; ARITY], output: *mut Self::Out, scalars: [T; SCALARS]) {
            // SAFETY: passed on.
            unsafe { Self::run(count, inputs, output, scalars) }
        }
    }
    compiled_for! { avx2
        /// # Safety
        /// As for `run`.
        unsafe fn run_avx2(count: usize, inputs: [*const T; ARITY], output: *mut Self::Out, scalars: [T; SCALARS]) {
            // SAFETY: passed on.
            unsafe { Self::run(count, inputs, output, scalars) }
        }
    }

    /// See [`Block::run`].
    ///
    /// # Safety
    /// As there.
    unsafe fn run_block(level: Level, count: usize, inputs: [*const u8; INPUTS], output: *mut u8, scalars: &Scalars) {
        let run = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Self::run_avx512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self::run_avx2,
            _ => Self::run,
        };
        let scalars = std::array::from_fn(|at| T::from_scalar(scalars.floats[at], scalars.ints[at]));
        let inputs: [*const T; ARITY] = std::array::from_fn(|input| inputs[input].cast());
        let output: *mut Self::Out = output.cast();
        // SAFETY: the caller's promise about the pointers; `isa` never gives a level that the machine lacks.
        unsafe { run(count, inputs, output, scalars) };
    }
}

impl Block {
    pub const fn of<A: Apply<T, ARITY>, T: Compute, const ARITY: usize>() -> Self {
        let (input, output) = (T::DTYPE, A::Out::DTYPE);
        Self { arity: ARITY, input, output, half: None, keeps_number: false, run: A::run_block }
    }
}

/// Elements of a group of [`Apply::run`], and of the smaller ones after the last. Of a loop of 32 turns or fewer the
/// compiler makes straight lines first, and vectors of several groups after, gathered and scattered: three times slower.
/// With its checks on, the code of a large group would take it minutes.
const WIDE: usize = if cfg!(debug_assertions) { NARROW } else { 64 };
const NARROW: usize = 8;

/// Declares the ops; the grammar is described at the head of `table.rs`.
macro_rules! table {
    (
        pointwise {$(
            $(#[doc = $doc:literal])*
            $name:ident: $arity:tt($set:tt) $(-> $out:ident)? $([$form:ident: $($aten:literal),*])? $(, $row_flag:ident $(($reason:literal))?)* =
                |$($input:ident),+; $scalars:pat_param| $body:expr $(, where $rare:expr => $slow:expr)?;
        )*}
        kernels {$(
            $(#[doc = $kernel_doc:literal])*
            $kernel:ident = $path:path, outputs $outputs:tt $(, $flag:ident $($rule:ident)?)*;
        )*}
    ) => {
        /// Every op, in the table's order.
        #[allow(non_camel_case_types, reason = "a row's name is the op's name")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Op { $($name,)* $($kernel,)* }

        mod expressions {
            // A module a row: the compiler builds modules apart, in parallel and only where edited.
            $(pub mod $name {
                use super::super::*;
                pub struct Pointwise;
                table!(@bounds $set [$($row_flag)*] $arity ($($out)?) ($($input),+) $scalars => $body $(, $rare, $slow)?);
                impl Expression for Pointwise {
                    fn block(&self, compute: DType) -> Option<Block> {
                        table!(@types $set block compute (table!(@arity $arity)))
                    }
                    fn trace(&self, compute: DType) -> Option<&'static Trace> {
                        table!(@trace [$($row_flag)*] $set compute (table!(@arity $arity)))
                    }
                    fn opaque(&self) -> Option<&'static str> {
                        None $($(.or(Some($reason)))?)*
                    }
                    fn divides(&self) -> bool {
                        table!(@divides $($row_flag)*)
                    }
                    fn keeps_number(&self) -> bool {
                        table!(@keeps_number $($row_flag)*)
                    }
                }
            })*
        }

        pub static OPS: &[Row] = &[
            $(Row {
                name: stringify!($name),
                entry: Entry::Pointwise(&expressions::$name::Pointwise),
                outputs: Outputs::Count(1),
                in_place: true,
                random: false,
                flops: flops::element,
            },)*
            $(Row {
                name: stringify!($kernel),
                entry: Entry::Kernel($path),
                outputs: table!(@outputs $outputs),
                in_place: table!(@in_place $(($flag $($rule)?))*),
                random: table!(@random $(($flag $($rule)?))*),
                flops: table!(@flops $(($flag $($rule)?))*),
            },)*
        ];
    };
    (@arity unary) => { 1 };
    (@arity binary) => { 2 };
    (@arity ternary) => { 3 };
    (@outputs first_int) => { Outputs::FirstInt };
    (@outputs $count:literal) => { Outputs::Count($count) };
    (@random) => { false };
    (@random (random) $($rest:tt)*) => { true };
    (@random $other:tt $($rest:tt)*) => { table!(@random $($rest)*) };
    (@in_place) => { false };
    (@in_place (in_place) $($rest:tt)*) => { true };
    (@in_place $other:tt $($rest:tt)*) => { table!(@in_place $($rest)*) };
    (@flops) => { flops::none };
    (@flops (flops $rule:ident) $($rest:tt)*) => { flops::$rule };
    (@flops $other:tt $($rest:tt)*) => { table!(@flops $($rest)*) };
    (@divides) => { false };
    (@divides divides $($rest:ident)*) => { true };
    (@divides $other:ident $($rest:ident)*) => { table!(@divides $($rest)*) };
    (@keeps_number) => { false };
    (@keeps_number keeps_number $($rest:ident)*) => { true };
    (@keeps_number $other:ident $($rest:ident)*) => { table!(@keeps_number $($rest)*) };
    // What an expression of each set may do: to elements, and to values of any kind.
    (@bounds float $($rest:tt)*) => { table!(@expression (Float) (Floating) $($rest)*); };
    (@bounds integral $($rest:tt)*) => { table!(@expression (Integral) (Bitwise) $($rest)*); };
    (@bounds integer $($rest:tt)*) => { table!(@expression (Integral + Number) (Whole) $($rest)*); };
    (@bounds numeric $($rest:tt)*) => { table!(@expression (Number) (Numeric) $($rest)*); };
    (@bounds all $($rest:tt)*) => { table!(@expression (Element) (Value) $($rest)*); };
    // An opaque expression is over elements alone.
    (@expression $element:tt $value:tt [opaque $($flag:ident)*] $($rest:tt)*) => {
        table!(@implement $element $element $($rest)*);
    };
    (@expression $element:tt $value:tt [$other:ident $($flag:ident)*] $($rest:tt)*) => {
        table!(@expression $element $value [$($flag)*] $($rest)*);
    };
    (@expression $element:tt $value:tt [] $($rest:tt)*) => { table!(@implement $element $value $($rest)*); };
    (@implement ($($element:tt)+) ($($value:tt)+) $arity:tt () ($($input:ident),+) $scalars:pat_param => $body:expr
        $(, $rare:expr, $slow:expr)?) => {
        #[inline(always)]
        fn evaluate<T: $($value)+>([$($input),+]: [T; table!(@arity $arity)], $scalars: [T; SCALARS]) -> T {
            $body
        }
        impl<T: Compute + Stored + $($element)+> Apply<T, { table!(@arity $arity) }> for Pointwise {
            type Out = T;
            #[inline(always)]
            fn apply(inputs: [T; table!(@arity $arity)], scalars: [T; SCALARS]) -> T {
                evaluate(inputs, scalars)
            }
            table!(@rare T $arity ($($input),+) $scalars $(=> $rare, $slow)?);
        }
    };
    (@implement ($($element:tt)+) ($($value:tt)+) $arity:tt (bool) ($($input:ident),+) $scalars:pat_param => $body:expr) => {
        #[inline(always)]
        fn evaluate<T: $($value)+>([$($input),+]: [T; table!(@arity $arity)], $scalars: [T; SCALARS]) -> T::Mask {
            $body
        }
        impl<T: Compute + $($element)+> Apply<T, { table!(@arity $arity) }> for Pointwise {
            type Out = Bool;
            #[inline(always)]
            fn apply(inputs: [T; table!(@arity $arity)], scalars: [T; SCALARS]) -> Bool {
                Bool::new(evaluate(inputs, scalars))
            }
        }
    };
    (@rare $type:ident $arity:tt $inputs:tt $scalars:pat_param) => {};
    (@rare $type:ident $arity:tt ($($input:ident),+) $scalars:pat_param => $rare:expr, $slow:expr) => {
        #[inline(always)]
        fn is_rare([$($input),+]: [$type; table!(@arity $arity)]) -> bool {
            $rare
        }
        fn apply_rare([$($input),+]: [$type; table!(@arity $arity)], $scalars: [$type; SCALARS]) -> $type {
            $slow
        }
    };
    (@trace [opaque $($flag:ident)*] $set:ident $compute:ident $arity:tt) => {{
        let _ = $compute;
        None
    }};
    (@trace [$other:ident $($flag:ident)*] $($rest:tt)*) => { table!(@trace [$($flag)*] $($rest)*) };
    (@trace [] $set:ident $compute:ident $arity:tt) => { table!(@types $set trace $compute $arity) };
    (@types float $what:ident $compute:ident $arity:tt) => { table!(@match $what $compute $arity F32 f32 F64 f64) };
    (@types integer $what:ident $compute:ident $arity:tt) => {
        table!(@match $what $compute $arity U8 u8 I8 i8 I16 i16 I32 i32 I64 i64)
    };
    (@types integral $what:ident $compute:ident $arity:tt) => {
        table!(@match $what $compute $arity U8 u8 I8 i8 I16 i16 I32 i32 I64 i64 Bool Bool)
    };
    (@types numeric $what:ident $compute:ident $arity:tt) => {
        table!(@match $what $compute $arity F32 f32 F64 f64 U8 u8 I8 i8 I16 i16 I32 i32 I64 i64)
    };
    (@types all $what:ident $compute:ident $arity:tt) => {
        table!(@match $what $compute $arity F32 f32 F64 f64 U8 u8 I8 i8 I16 i16 I32 i32 I64 i64 Bool Bool)
    };
    (@match $what:ident $compute:ident $arity:tt $($dtype:ident $type:ident)*) => {
        match $compute {
            $(DType::$dtype => table!(@$what $type $arity),)*
            _ => None,
        }
    };
    (@block $type:ident $arity:tt) => { Some(Block::of::<Pointwise, $type, { $arity }>()) };
    (@trace $type:ident $arity:tt) => {{
        static TRACE: OnceLock<Trace> = OnceLock::new();
        Some(TRACE.get_or_init(|| record::<$type, { $arity }, _>(evaluate::<Traced<$type>>)))
    }};
}
pub(crate) use table;
