//! What a launch refuses: views out of their storage, sizes and strides that no address holds,
//! overlaps, indices out of range. Each against plain arithmetic over the elements' addresses.

mod support;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::{Error, Kind};
use rustorch_kernels::ops::{Op, launch};
use rustorch_kernels::validate::bounds;
use rustorch_kernels::validate::indices::Legal;
use rustorch_kernels::view::{Attrs, View};

/// A view of `memory` at `offset` elements.
fn view<'a>(memory: &'a [f32], offset: usize, sizes: &'a [i64], strides: &'a [i64]) -> View<'a> {
    let data = memory.as_ptr().wrapping_add(offset).cast_mut();
    // SAFETY: what leaves the memory is refused, which the tests are about.
    unsafe { View::new(data.cast(), DType::F32, sizes, strides) }.within(memory.as_ptr() as usize, size_of_val(memory))
}

fn negate(to: View<'_>, from: View<'_>) -> Result<(), Error> {
    launch(Op::neg.row(), &[to, from], &Attrs { ints: &[DType::F32 as i64], floats: &[] })
}

#[test]
fn bounds_agree_with_the_elements_addresses() {
    let memory = [0f32; 24];
    for offset in 0..4 {
        for sizes in [[2i64, 3], [1, 5], [4, 1], [3, 0], [7, 7]] {
            for strides in [[1i64, 1], [3, 1], [0, 2], [10, 4], [23, 1], [-1, 2], [1, -3]] {
                let reached: Vec<i64> = (0..sizes[0])
                    .flat_map(|i| (0..sizes[1]).map(move |j| offset as i64 + i * strides[0] + j * strides[1]))
                    .collect();
                let legal = reached.iter().all(|at| (0..memory.len() as i64).contains(at));
                let answer = bounds(&view(&memory, offset, &sizes, &strides));
                assert_eq!(answer.is_ok(), legal, "{sizes:?} {strides:?} from {offset}");
                if let (Ok(span), Some(first), Some(last)) = (answer, reached.iter().min(), reached.iter().max()) {
                    let address = |at: i64| memory.as_ptr() as usize + at as usize * 4;
                    assert_eq!(span, address(*first)..address(*last + 1));
                }
            }
        }
    }
}

#[test]
fn hostile_sizes_and_strides_are_refused_without_overflow() {
    let memory = [0f32; 4];
    for (sizes, strides) in [
        (vec![i64::MAX], vec![i64::MAX]),
        (vec![i64::MAX, i64::MAX], vec![0, 0]),
        (vec![1 << 40, 1 << 40], vec![0, 0]),
        (vec![2, 2], vec![i64::MAX, i64::MAX]),
        (vec![2], vec![i64::MIN]),
        (vec![i64::MAX], vec![-1]),
        (vec![-1], vec![1]),
        (vec![i64::MIN], vec![1]),
        (vec![0, -3], vec![1, 1]),
        (vec![1 << 62], vec![4]),
    ] {
        let error = bounds(&view(&memory, 0, &sizes, &strides)).expect_err("no memory has room for it");
        assert!(error.to_string().contains("out of bounds for storage of size 16"), "{error}");
        assert_eq!(error.kind(), Kind::Runtime);
    }
    let nothing = view(&[], 0, &[1], &[1]);
    assert!(bounds(&nothing).is_err());
    assert_eq!(bounds(&view(&[], 7, &[3, 0], &[i64::MAX, 1])), Ok(0..0));
    assert_eq!(bounds(&View::absent()), Ok(0..0));
}

#[test]
fn elements_across_their_alignment_are_refused() {
    let memory = [0u64; 4];
    let at = |dtype: DType, byte: usize| {
        let data = memory.as_ptr().cast::<u8>().wrapping_add(byte).cast_mut();
        // SAFETY: nothing is read.
        bounds(&unsafe { View::new(data, dtype, &[1], &[1]) })
    };
    for byte in 0..16 {
        for (dtype, alignment) in [
            (DType::U8, 1),
            (DType::Bool, 1),
            (DType::BF16, 2),
            (DType::F32, 4),
            (DType::I64, 8),
            (DType::C64, 8),
            (DType::C128, 8),
        ] {
            assert_eq!(at(dtype, byte).is_ok(), byte % alignment == 0, "{dtype} at byte {byte}");
        }
    }
    let error = at(DType::F32, 2).expect_err("half a number off");
    assert_eq!(error.to_string(), "the memory of a float32 tensor is not aligned to 4 bytes: clone() it on the CPU");
}

#[test]
fn a_view_of_no_memory_is_refused() {
    for (sizes, legal) in [([0i64], true), ([3], false)] {
        // SAFETY: it is refused where it has elements, which the test is about.
        let nothing = unsafe { View::new(std::ptr::null_mut(), DType::F32, &sizes, &[1]) };
        assert_eq!(bounds(&nothing).is_ok(), legal);
        assert_eq!(bounds(&nothing.within(0, 12)).is_ok(), legal);
    }
}

#[test]
fn a_refusal_names_the_op_and_writes_nothing() {
    let mut memory = [1f32; 8];
    let pointer = memory.as_mut_ptr();
    // SAFETY: the view is within `memory`.
    let to = unsafe { View::new(pointer.cast(), DType::F32, &[4], &[1]) };
    let error = negate(to, view(&[2.0; 3], 0, &[4], &[1])).expect_err("four elements of three");
    assert!(error.to_string().contains("in neg(float32[4], float32[4])"), "{error}");
    assert_eq!(memory, [1f32; 8]);
}

#[test]
fn overlap_is_refused_where_it_is_certain() {
    let memory = [0f32; 16];
    let to = view(&memory, 0, &[2, 3], &[3, 1]);
    // The same tensor, however its dimensions of one are strided; elements apart; or interleaved.
    assert!(negate(to, to).is_ok());
    assert!(negate(view(&memory, 0, &[1, 3], &[9, 1]), view(&memory, 0, &[1, 3], &[3, 1])).is_ok());
    assert!(negate(to, view(&memory, 6, &[2, 3], &[3, 1])).is_ok());
    assert!(negate(view(&memory, 0, &[2, 3], &[6, 2]), view(&memory, 1, &[2, 3], &[6, 2])).is_ok());
    assert!(negate(view(&memory, 3, &[0, 3], &[3, 1]), view(&memory, 0, &[0, 3], &[3, 1])).is_ok());
    // No elements, and so none twice.
    assert!(negate(view(&memory, 0, &[2, 0], &[0, 1]), view(&memory, 8, &[2, 0], &[1, 1])).is_ok());
    // Shifted, transposed, broadcast out of the output.
    for from in [
        view(&memory, 1, &[2, 3], &[3, 1]),
        view(&memory, 0, &[2, 3], &[1, 2]),
        view(&memory, 1, &[2, 3], &[0, 1]),
        view(&memory, 5, &[2, 3], &[0, 0]),
    ] {
        let error = negate(to, from).expect_err("it overlaps");
        assert!(error.to_string().contains("refer to a single memory location"), "{error}");
    }
    for strides in [[0, 1], [1, 0]] {
        let error = negate(view(&memory, 0, &[2, 3], &strides), view(&memory, 8, &[2, 3], &[3, 1]));
        let error = error.expect_err("the output repeats elements");
        assert!(error.to_string().contains("more than one element of the written-to tensor"), "{error}");
    }
}

#[test]
fn lists_are_looked_through_as_pairs_are() {
    let memory = [0f32; 400];
    let size = [4i64];
    let step = [1i64];
    let at = |offset: usize| view(&memory, offset, &size, &step);
    // Parameters, then gradients: plain SGD.
    let attrs = Attrs { ints: &[50, 0, 0, 1], floats: &[0.0, 0.0, 0.0, 0.0, 0.0] };
    let row = Op::fused_sgd.row();
    let mut views: Vec<View<'_>> = (0..100).map(|index| at(index * 4)).collect();
    assert!(launch(row, &views, &attrs).is_ok());
    for (place, offset) in [(99, 2), (0, 398 - 4), (49, 4), (60, 5)] {
        let before = std::mem::replace(&mut views[place], at(offset));
        let error = launch(row, &views, &attrs).expect_err("an operand overlaps one that is written");
        assert!(error.to_string().contains("refer to a single memory location"), "{error}");
        views[place] = before;
    }
    // Gradients may overlap one another.
    views[60] = at(61 * 4);
    assert!(launch(row, &views, &attrs).is_ok());
    let error = launch(row, &views[..20], &attrs).expect_err("fifty are said to be written");
    assert!(error.to_string().contains("too few"), "{error}");
    assert!(launch(row, &views, &Attrs { ints: &[], floats: &[] }).is_err());
    assert!(launch(row, &views, &Attrs { ints: &[-1], floats: &[] }).is_err());
}

#[test]
fn ops_that_read_while_they_write_refuse_their_own_output() {
    let memory = [0f32; 16];
    let square = view(&memory, 0, &[3, 3], &[3, 1]);
    let error = launch(Op::matmul.row(), &[square, square, square], &Attrs::default()).expect_err("not in place");
    assert!(error.to_string().contains("refer to a single memory location"), "{error}");
    let attrs = Attrs { ints: &[0], floats: &[] };
    assert!(launch(Op::cumsum.row(), &[square, square], &attrs).is_ok());
}

#[test]
fn indices_are_checked_against_plain_search() {
    let wrong = |index: i64| Error::Index { index, dim: 0, size: 5 };
    let legal = Legal::below(5);
    for (legal, allowed) in
        [(legal, vec![0, 4]), (legal.wrapping(), vec![0, 4, -1, -5]), (legal.ignoring(-100), vec![0, -100, 4])]
    {
        for index in [0, 4, 5, -1, -5, -6, -100, i64::MAX, i64::MIN] {
            let expected = allowed.contains(&index);
            assert_eq!(legal.allows(index), expected, "{index}");
            for count in [1, 7, 100_000] {
                let mut list = vec![0i64; count];
                list[count / 2] = index;
                let sizes = [count as i64];
                // SAFETY: the list's own elements.
                let view = unsafe { View::new(list.as_mut_ptr().cast(), DType::I64, &sizes, &[1]) };
                assert_eq!(legal.check(&view, wrong), if expected { Ok(()) } else { Err(wrong(index)) });
                let all = legal.check_all(list.iter().copied(), wrong);
                assert_eq!(all.is_ok(), expected);
            }
        }
    }
    let mut narrow = [0i32, 9, -3];
    // SAFETY: the array's own elements.
    let view = unsafe { View::new(narrow.as_mut_ptr().cast(), DType::I32, &[3], &[1]) };
    assert_eq!(legal.check(&view, wrong), Err(wrong(9)));
    // SAFETY: as above.
    let floats = unsafe { View::new(narrow.as_mut_ptr().cast(), DType::F32, &[3], &[1]) };
    assert!(legal.check(&floats, wrong).is_err());
}
