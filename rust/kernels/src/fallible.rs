//! Lists as long as a tensor's data asks for. `vec![]`, `Vec::with_capacity` and `collect` end the process where the
//! system has no memory left; these refuse, as every other allocation of a launch does.
//!
//! They unwind with [`Error::OutOfMemory`] instead of returning it, since most are made deep within the tasks of a
//! kernel. [`threads::parallel`](crate::threads::parallel) hands that on to the launching thread, and the door makes
//! `torch.OutOfMemoryError` of it ([`Error::from_panic`]), as of a refusal that was returned.
// The lint that keeps plain allocations out of the other files of this crate.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods)]

use crate::error::Error;

#[cold]
fn refuse(bytes: usize) -> ! {
    // Not a panic: nothing is printed, as nothing is wrong with the code.
    std::panic::resume_unwind(Box::new(Error::OutOfMemory { bytes }))
}

/// An empty list with room for `count` elements.
pub fn reserved<T>(count: usize) -> Vec<T> {
    let mut list = Vec::new();
    if list.try_reserve_exact(count).is_err() {
        refuse(count.saturating_mul(size_of::<T>()));
    }
    list
}

/// `count` times the same.
pub fn filled<T: Clone>(count: usize, value: T) -> Vec<T> {
    let mut list = reserved(count);
    list.resize(count, value);
    list
}

/// As `list.push(element)`.
pub fn push<T>(list: &mut Vec<T>, element: T) {
    if list.len() == list.capacity() && list.try_reserve(1).is_err() {
        refuse((2 * list.capacity()).saturating_mul(size_of::<T>()));
    }
    list.push(element);
}

/// As `collect`, of any length.
pub trait Collected: Iterator + Sized {
    /// The elements in a list.
    fn collected(self) -> Vec<Self::Item> {
        let mut list = reserved(self.size_hint().0);
        for element in self {
            push(&mut list, element);
        }
        list
    }
}

impl<I: Iterator> Collected for I {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: impl FnOnce() + std::panic::UnwindSafe) -> Error {
        Error::from_panic(std::panic::catch_unwind(body).unwrap_err())
    }

    #[test]
    fn lists_hold_what_they_are_given() {
        assert_eq!(filled(3, 7u8), [7, 7, 7]);
        assert_eq!((0..5).filter(|at| at % 2 == 0).collected(), [0, 2, 4]);
        assert_eq!(reserved::<u8>(0).capacity(), 0);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let most = usize::MAX / 2;
        assert_eq!(refused(|| drop(filled(most, 0u8))), Error::OutOfMemory { bytes: most });
        assert_eq!(refused(|| drop(reserved::<u64>(most))), Error::OutOfMemory { bytes: usize::MAX });
        assert_eq!(refused(|| drop((0..most).collected())), Error::OutOfMemory { bytes: usize::MAX });
    }
}
