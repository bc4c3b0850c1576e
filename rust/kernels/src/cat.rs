//! Concatenation: one copy (and cast, where dtypes differ) into each part of the result.

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::loops::copy;
use crate::threads;
use crate::view::{Attrs, View};

/// Parts larger than this on average are copied one after another, each by all threads; smaller
/// ones side by side.
const LARGE: usize = 64 * 1024;

/// `[out, inputs...]`, ints `[dim]`: the inputs behind one another along `dim`.
pub fn launch(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let Some((out, inputs)) = views.split_first() else {
        return Err(Error::Runtime("expected [out, inputs...]".into()));
    };
    let dim = attrs.int(0) as usize;
    if dim >= out.rank() {
        return Err(Error::Shape(format!("dimension {dim} is out of range for {:?}", out.sizes())));
    }
    let mut starts: SmallVec<[i64; 8]> = SmallVec::new();
    let mut total = 0;
    for input in inputs {
        let mut sizes: SmallVec<[usize; 6]> = SmallVec::from_iter(out.sizes().iter().map(|&size| size as usize));
        sizes[dim] = if input.rank() == out.rank() { input.size(dim) } else { 0 };
        input.expect_sizes("a tensor to concatenate", &sizes)?;
        copy::Cast::new(input.dtype(), out.dtype())?;
        starts.push(total);
        total += input.sizes()[dim];
    }
    if total != out.sizes()[dim] {
        return Err(Error::Shape(format!("parts of total size {total} cannot fill {:?} along {dim}", out.sizes())));
    }
    let place = |part: usize| {
        let input = &inputs[part];
        // SAFETY: a part of the result along `dim`.
        let to = unsafe { out.reshaped(starts[part] as isize * out.stride(dim), input.sizes(), out.strides()) };
        copy::launch(&[to, *input], &Attrs::default())
    };
    if inputs.is_empty() || out.numel() / inputs.len() > LARGE {
        return (0..inputs.len()).try_for_each(place);
    }
    let first_error = std::sync::Mutex::new(None);
    threads::parallel(inputs.len(), out.numel(), |part| {
        if let Err(error) = place(part) {
            first_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
        }
    });
    first_error.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}
