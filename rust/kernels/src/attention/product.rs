//! The product that all of attention is made of: numbers read one at a time, times rows of lanes.

use crate::lanes::Lanes;
use crate::matmul::Matrix;
use crate::value::Value;

/// Rows of lanes at a distance.
#[derive(Clone, Copy)]
pub struct Rows<T> {
    pub data: *mut T,
    pub pitch: usize,
}

/// `out = left @ right`, or `out += left @ right`, where `right` and `out` have rows of `lanes`
/// numbers, a multiple of the vector's width, and `left` has any strides.
///
/// # Safety
/// The CPU has the level of `L`; the operands are valid for (rows, depth), (depth, lanes) and
/// (rows, lanes), and `out` is apart from the others.
#[inline(always)]
pub unsafe fn product<L: Lanes>(
    out: Rows<L::Elem>,
    left: Matrix<L::Elem>,
    right: Rows<L::Elem>,
    lanes: usize,
    accumulate: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        if L::REGISTERS >= 32 {
            tiles::<L, 8>(out, left, right, lanes, accumulate);
        } else {
            tiles::<L, 4>(out, left, right, lanes, accumulate);
        }
    }
}

/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn tiles<L: Lanes, const ROWS: usize>(
    out: Rows<L::Elem>,
    left: Matrix<L::Elem>,
    right: Rows<L::Elem>,
    lanes: usize,
    accumulate: bool,
) {
    let mut lane = 0;
    while lane < lanes {
        let wide = lanes - lane >= 2 * L::WIDTH;
        let mut row = 0;
        while row < left.rows {
            let count = ROWS.min(left.rows - row);
            let part = left.part(row, 0, count, left.cols);
            let to = Rows { data: out.data.wrapping_add(row * out.pitch + lane), pitch: out.pitch };
            let from = Rows { data: right.data.wrapping_add(lane), pitch: right.pitch };
            // SAFETY: the caller's; the tile lies within the operands.
            unsafe {
                if wide {
                    tile::<L, ROWS, 2>(to, part, from, accumulate);
                } else {
                    tile::<L, ROWS, 1>(to, part, from, accumulate);
                }
            }
            row += count;
        }
        lane += if wide { 2 * L::WIDTH } else { L::WIDTH };
    }
}

/// # Safety
/// As [`product`], for at most `ROWS` rows and `VECTORS` vectors.
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    out: Rows<L::Elem>,
    left: Matrix<L::Elem>,
    right: Rows<L::Elem>,
    accumulate: bool,
) {
    // SAFETY: the caller's; rows past the last are computed from the last, and not stored.
    unsafe {
        let rows: [*mut L::Elem; ROWS] = std::array::from_fn(|row| left.at(row.min(left.rows - 1), 0));
        let mut sums = [[L::splat(L::Elem::ZERO); VECTORS]; ROWS];
        let mut from = right.data;
        let mut offset = 0;
        for _ in 0..left.cols {
            let mut values = [L::splat(L::Elem::ZERO); VECTORS];
            for vector in 0..VECTORS {
                values[vector] = L::load(from.add(vector * L::WIDTH));
            }
            for row in 0..ROWS {
                let factor = L::splat(*rows[row].offset(offset));
                for vector in 0..VECTORS {
                    sums[row][vector] = L::fma(values[vector], factor, sums[row][vector]);
                }
            }
            from = from.wrapping_add(right.pitch);
            offset += left.col_stride;
        }
        for row in 0..ROWS {
            if row < left.rows {
                for vector in 0..VECTORS {
                    let to = out.data.add(row * out.pitch + vector * L::WIDTH);
                    let sum = sums[row][vector];
                    L::store(to, if accumulate { L::add(L::load(to), sum) } else { sum });
                }
            }
        }
    }
}
