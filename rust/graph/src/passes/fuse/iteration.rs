//! Iteration spaces of pointwise instructions, in a form that lets different views of the same
//! elements be compared: outermost dimension first in the memory order of what is written, without
//! dimensions of size one.

use rustorch_kernels::dtype::DType;

use crate::program::{BufferId, Operand};

/// Sizes, outermost first.
pub type Sizes = Vec<i64>;

/// A view of a buffer over some sizes, which its owner knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    pub buffer: BufferId,
    pub offset: usize,
    pub dtype: DType,
    pub strides: Vec<i64>,
}

/// The order in which to take the dimensions of an instruction that writes `output`; None where
/// the output may overlap itself.
pub fn order(output: &Operand) -> Option<Vec<usize>> {
    let mut dims: Vec<usize> = (0..output.sizes.len()).filter(|&dim| output.sizes[dim] != 1).collect();
    dims.sort_by_key(|&dim| std::cmp::Reverse(output.strides[dim]));
    let mut reach = 0;
    for &dim in dims.iter().rev() {
        if output.strides[dim] <= reach {
            return None;
        }
        reach += (output.sizes[dim] - 1) * output.strides[dim];
    }
    Some(dims)
}

/// The operand over the dimensions in this order.
pub fn access(operand: &Operand, order: &[usize]) -> Option<Access> {
    Some(Access {
        buffer: operand.buffer?,
        offset: operand.offset,
        dtype: operand.dtype,
        strides: order.iter().map(|&dim| operand.strides[dim]).collect(),
    })
}

/// The coarsest sizes that both can be cut into without reordering elements: `[6, 4]` and `[2, 12]`
/// become `[2, 3, 4]`. None where there are none.
pub fn refine(a: &[i64], b: &[i64]) -> Option<Sizes> {
    if a == b {
        return Some(a.to_vec());
    }
    // Counts of elements inside of each dimension's boundary.
    let boundaries = |sizes: &[i64]| -> Vec<i64> {
        let mut inside = 1;
        sizes
            .iter()
            .rev()
            .map(|&size| {
                inside *= size;
                inside
            })
            .collect()
    };
    let mut all = [boundaries(a), boundaries(b)].concat();
    all.sort_unstable();
    all.dedup();
    let mut sizes = Sizes::new();
    let mut inside = 1;
    for boundary in all {
        if boundary % inside != 0 {
            return None;
        }
        sizes.push(boundary / inside);
        inside = boundary;
    }
    sizes.reverse();
    Some(sizes)
}

/// Strides over `sizes` as strides over `finer` sizes, which `refine` made of them.
pub fn expand(sizes: &[i64], strides: &[i64], finer: &[i64]) -> Vec<i64> {
    let mut expanded = vec![0; finer.len()];
    let mut at = finer.len();
    for (&size, &stride) in sizes.iter().zip(strides).rev() {
        let mut inside = 1;
        while inside < size {
            at -= 1;
            expanded[at] = stride * inside;
            inside *= finer[at];
        }
    }
    expanded
}

impl Access {
    pub fn over(&self, sizes: &[i64], finer: &[i64]) -> Self {
        Self { strides: expand(sizes, &self.strides, finer), ..self.clone() }
    }

    /// The bytes it reaches.
    pub fn range(&self, sizes: &[i64]) -> std::ops::Range<usize> {
        Operand::extent(self.offset, self.dtype, sizes, &self.strides).unwrap_or(0..usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_refined_where_their_boundaries_nest() {
        assert_eq!(refine(&[6, 4], &[2, 12]), Some(vec![2, 3, 4]));
        assert_eq!(refine(&[24], &[2, 12]), Some(vec![2, 12]));
        assert_eq!(refine(&[6, 4], &[4, 6]), None);
        assert_eq!(refine(&[], &[]), Some(vec![]));
    }

    #[test]
    fn strides_follow_a_refinement() {
        assert_eq!(expand(&[6, 4], &[4, 1], &[2, 3, 4]), [12, 4, 1]);
        assert_eq!(expand(&[24], &[0], &[2, 3, 4]), [0, 0, 0]);
        assert_eq!(expand(&[2, 12], &[1, 2], &[2, 3, 4]), [1, 8, 2]);
    }
}
