//! The rows of ops that are not pointwise: a kernel each.
//!
//! A kernel row names the function of its file and how many of its first views it writes. After it:
//! `random` where it draws from the generator; `in_place` where what it writes may be an input (a
//! launch refuses that of other kernels; pointwise ops all may); and `flops` with the rule of
//! `flops.rs` by which a profile counts its arithmetic; a row without one only moves elements.

/// The whole op table: the pointwise rows that it is given, then these.
macro_rules! with_kernels {
    ($($pointwise:tt)*) => { table! {
    $($pointwise)*
    kernels {
        /// Copies and casts: `[to, from]` of one shape.
        copy = crate::loops::copy::launch, outputs 1, in_place;
        /// `[out]` of any dtype. Integers and bool take `ints[0]`, floats `floats[0]`, complex types
        /// `floats[0..2]` (real, imaginary).
        fill = crate::loops::fill::fill, outputs 1;
        /// `[out]` of one dimension: `start + i * step`. Ints (for integers) or floats (for floats): start, step.
        arange = crate::loops::fill::arange, outputs 1;
        /// `[out]` of one dimension, from and up to a number; floats: both. Between them integers are cut.
        linspace = crate::loops::fill::linspace, outputs 1;
        /// Powers of a base, whose exponents are linspace's; floats: both exponents, the base.
        logspace = crate::loops::fill::logspace, outputs 1;
        /// Matrix product: `[out, a, b]`, 2-D.
        matmul = crate::matmul::matmul, outputs 1, flops product;
        /// Products in a batch: `[out, a, b]`, 3-D.
        batch_matmul = crate::matmul::batch_matmul, outputs 1, flops product;
        /// `beta * input + alpha * a @ b`: `[out, input, a, b]`, 2-D or 3-D; ints and floats: beta, alpha.
        addmm = crate::matmul::addmm, outputs 1, in_place, flops product;
        /// Convolution: `[out, input, weight, bias?]`. Ints of every convolution: spatial rank, then
        /// stride, padding, dilation for each spatial dimension, then groups.
        conv_forward = crate::conv::forward, outputs 1, flops convolve;
        /// `[grad_input, grad_output, weight, bias?]`; also a transposed convolution, with its bias.
        conv_input_grad = crate::conv::input_grad, outputs 1, flops convolve_input;
        /// `[grad_weight, input, grad_output]`.
        conv_weight_grad = crate::conv::weight_grad, outputs 1, flops convolve_weight;
        /// `[grad_bias, grad_output]`.
        conv_bias_grad = crate::conv::bias_grad, outputs 1, flops once;

        /// Scaled dot-product attention: `[out, logsumexp, query, key, value, mask?]`; ints `[0, 0, causal]`,
        /// floats `[scale]`.
        attention = crate::attention::attention, outputs 2, flops attend;
        /// `[out, logsumexp, state (two i64), query, key, value, mask?]`; ints `[seed, offset, causal]`,
        /// floats `[scale, p]`. Words: one a pair of query and key, the queries rounded up to four.
        attention_dropout = crate::attention::attention_dropout, outputs 3, random, flops attend;
        /// `[grad_query, grad_key, grad_value, grad_mask?, grad_out, query, key, value, mask?, out,
        /// logsumexp, seed?, offset?]`; ints `[0, 0, causal]`, floats `[scale, p]`.
        attention_backward = crate::attention::attention_backward, outputs 4, flops attend_backward;

        /// `[hy, cy, activations, input_gates, hidden_gates, cx, input_bias?, hidden_bias?]`.
        lstm_cell = crate::rnn::lstm_cell, outputs 3, flops once;
        /// `[grad_gates, grad_cx, grad_hy?, grad_cy?, cx, cy, activations]`.
        lstm_cell_backward = crate::rnn::lstm_cell_backward, outputs 2, flops once;
        /// `[hy, saved, input_gates, hidden_gates, hx, input_bias?, hidden_bias?]`.
        gru_cell = crate::rnn::gru_cell, outputs 2, flops once;
        /// `[grad_input_gates, grad_hidden_gates, grad_hx, grad_hy, saved]`.
        gru_cell_backward = crate::rnn::gru_cell_backward, outputs 3, flops once;
        // Layers: all steps of a sequence. What has a row for each step and sample is `[steps, batch,
        // width]`, or `[rows, width]` with the steps' rows one after another. Ints `[reverse, the
        // batch's size at each step (never growing)]`.
        /// `[out, hy, cy, saved, weight_hh, hx, cx, input_bias?, hidden_bias?]`; saved holds the input's
        /// part of the four gates, and is left with the activations and, after them, the cell's states.
        lstm_layer = crate::rnn::lstm_layer, outputs 4, flops recur;
        /// `[grad_gates, previous, grad_hx, grad_cx, weight_hh, grad_out?, grad_hy?, grad_cy?, saved, out, hx,
        /// cx]`; previous are the states that each step began with.
        lstm_layer_backward = crate::rnn::lstm_layer_backward, outputs 4, flops recur;
        /// `[out, hy, saved, weight_hh, hx, bias?]`; saved holds the input's part of the three gates, and is
        /// left with reset, update, candidate and the hidden part of the candidate. The bias has four
        /// parts as well: the last is the candidate's hidden part's.
        gru_layer = crate::rnn::gru_layer, outputs 3, flops recur;
        /// `[grad_input_gates, grad_hidden_gates, previous, grad_hx, weight_hh, grad_out?, grad_hy?, saved, out,
        /// hx]`.
        gru_layer_backward = crate::rnn::gru_layer_backward, outputs 4, flops recur;

        /// Concatenates: `[out, inputs...]`, ints `[dim]`; inputs are cast to `out`'s dtype.
        cat = crate::cat::launch, outputs 1;

        /// `[out, self, index]`, ints `[dim]`; the index has `out`'s sizes.
        gather = crate::index::gather, outputs 1;
        /// `[out, self, index]`, ints `[dim]`; a 1-D index.
        index_select = crate::index::index_select, outputs 1;
        /// Indexing with tensors: `[out, self, indices...]`, absent for a full slice.
        index = crate::index::index, outputs 1;
        /// `[out, weight, indices]`.
        embedding = crate::index::embedding, outputs 1;
        /// `[grad_weight, grad, indices]`, ints `[padding_idx (negative: none), scale_grad_by_freq]`.
        embedding_backward = crate::index::embedding_backward, outputs 1, flops once;
        /// `[out, offset2bag, bag_size, max_indices?, weight, indices, offsets, per_sample_weights?]`, ints
        /// `[mode (0 sum, 1 mean, 2 max), include_last_offset, padding_idx]`.
        embedding_bag = crate::index::embedding_bag, outputs 4, flops once;
        /// `[grad_weight, grad, indices, offset2bag, bag_size, max_indices?, per_sample_weights?]`, ints
        /// `[mode, scale_grad_by_freq, padding_idx]`.
        embedding_bag_backward = crate::index::embedding_bag_backward, outputs 1, flops once;
        /// `[grad_weights, grad, weight, indices, offset2bag]`, ints `[padding_idx]`.
        embedding_bag_weights_backward = crate::index::embedding_bag_weights_backward, outputs 1, flops once;
        /// `[weight, indices]`, floats `[max_norm, p]`.
        embedding_renorm = crate::index::embedding_renorm, outputs 1, flops once;
        /// `[self, index, src]`, ints `[dim]`.
        scatter = crate::index::scatter, outputs 1;
        /// `[self, index]`, ints `[dim, value]`, floats `[value]`.
        scatter_value = crate::index::scatter_value, outputs 1;
        /// `[self, index, src]`, ints `[dim, reduction, include_self]`; reductions are 0 sum,
        /// 1 prod, 2 mean, 3 amax, 4 amin.
        scatter_reduce = crate::index::scatter_reduce, outputs 1, flops once;
        /// `[self, index, source]`, ints `[dim, alpha]`, floats `[alpha]`.
        index_add = crate::index::index_add, outputs 1, flops once;
        /// `[self, index, source]`, ints `[dim]`.
        index_copy = crate::index::index_copy, outputs 1;
        /// `[self, index]`, ints `[dim, value]`, floats `[value]`.
        index_fill = crate::index::index_fill, outputs 1;
        /// `[self, values, indices...]`, absent for a full slice; ints `[accumulate]`.
        index_put = crate::index::index_put, outputs 1;
        /// `[count (one i64), self]`.
        count_true = crate::index::count_true, outputs 1, flops once;
        /// `[out (i64, rows × rank), self]`, ints `[fill]`.
        nonzero = crate::index::nonzero, outputs 1;
        /// `[out (1-D), self, mask]`, self and mask of one shape.
        masked_select = crate::index::masked_select, outputs 1;
        /// `[self, mask, source (1-D)]`, self and mask of one shape.
        masked_scatter = crate::index::masked_scatter, outputs 1;
        /// `[self, index (1-D), source]`, ints `[dim, reduction, include_self]` as scatter_reduce's.
        index_reduce = crate::index::index_reduce, outputs 1;
        /// `[out, self, index]`, indices into all of self in C order.
        take = crate::index::take, outputs 1;
        /// `[self, index, source]`, ints `[accumulate]`.
        put = crate::index::put, outputs 1;
        /// `[out (1-D), self (1-D, integers), weights?]`.
        bincount = crate::index::bincount, outputs 1;
        /// `[out (1-D), ends (1-D, i64)]`, ends the running sums of the repeats.
        repeat_interleave = crate::index::repeat_interleave, outputs 1;
        /// `[out, self]`, ints: the dimensions to reverse.
        flip = crate::index::flip, outputs 1;
        /// `[out, self]`, ints `[dim, shift, dim, shift, ...]`.
        roll = crate::index::roll, outputs 1;
        /// `[out, self]`, ints `[diagonal]`.
        tril = crate::index::tril, outputs 1, in_place;
        /// `[out, self]`, ints `[diagonal]`.
        triu = crate::index::triu, outputs 1, in_place;

        /// `[values, indices (i64), self]`, ints `[dim, descending]`: stable.
        sort = crate::order::sort, outputs 2;
        /// `[values, indices (i64), self]`, ints `[dim, largest]`.
        topk = crate::order::topk, outputs 2;
        /// `[value, index (i64), self]`, outputs of size one in `dim`; ints `[dim, k]`.
        kth_value = crate::order::kth_value, outputs 2;
        /// `[value, index (i64), self]` as kth_value; ints `[dim, ignore_nan]`.
        median = crate::order::median, outputs 2;
        /// `[value, index (i64), self]` as kth_value; ints `[dim]`.
        mode = crate::order::mode, outputs 2;
        /// `[count, first, inverse?, counts?, self]`, all but self i64; ints `[dim (-1: by elements),
        /// consecutive]`.
        unique = crate::order::unique, outputs 4;
        /// `[out (i64 or i32), boundaries, values, sorter?]`, ints `[right]`.
        searchsorted = crate::order::searchsorted, outputs 1;
        /// `[out (bool), elements, tests]`, ints `[invert]`.
        isin = crate::order::isin, outputs 1;
        /// `[out, points (rows × coordinates), weights?, edges...]`, ints `[find]`.
        histogram = crate::order::histogram, outputs 1;

        // Each takes ints `[seed, offset]` first and consumes ceil(numel * words / 4) counters.
        /// `[out]`, floats `[from, to]`. Words: 1, or 2 for f64.
        uniform = crate::random::uniform, outputs 1, random;
        /// `[out]`, floats `[mean, deviation]`. Words: 1, or 2 for f64.
        normal = crate::random::normal, outputs 1, random;
        /// `[out]`, floats `[mean, deviation]` of the logarithm. Words: 1, or 2 for f64.
        log_normal = crate::random::log_normal, outputs 1, random;
        /// `[out]`, floats `[rate]`. Words: 1, or 2 for f64.
        exponential = crate::random::exponential, outputs 1, random;
        /// `[out]`, floats `[median, scale]`. Words: 1, or 2 for f64.
        cauchy = crate::random::cauchy, outputs 1, random;
        /// `[out]` of any dtype, floats `[p]`. Words: 2.
        geometric = crate::random::geometric, outputs 1, random;
        /// `[out]` of any dtype, floats `[p]`. Words: 1.
        bernoulli = crate::random::bernoulli, outputs 1, random;
        /// `[out, p]` of one shape. Words: 1.
        bernoulli_tensor = crate::random::bernoulli_tensor, outputs 1, random, in_place;
        /// `[out]` of any dtype, ints `[seed, offset, from, range]` (zero: all 2^64). Words: 1, or 2
        /// where range is zero or above 2^32.
        random = crate::random::random, outputs 1, random;
        /// `[out (1-D)]`: a permutation. Words: 2.
        randperm = crate::random::randperm, outputs 1, random;
        /// `[out (i64, rows × samples), weights (rows × categories)]`, ints `[seed, offset,
        /// replacement]`. Words: 2 a sample with replacement, 2 a category without.
        multinomial = crate::random::multinomial, outputs 1, random;
        /// `[out, rate]`, floats of one shape. Words: 4.
        poisson = crate::random::poisson, outputs 1, random;
        /// `[out, count, p]`, floats of one shape. Words: 4.
        binomial = crate::random::binomial, outputs 1, random;
        /// `[out, shape]`, floats of one shape. Words: 4.
        standard_gamma = crate::random::standard_gamma, outputs 1, random;
        /// `[out, mask (bool), input]`, floats `[p]`. Words: 1.
        dropout = crate::random::dropout, outputs 2, random, flops once;
        /// `[out, mask (bool), state (i32), input]`, floats `[p]`: draws from the state of PyTorch's
        /// CPU generator, in the order of the mask's memory, and writes the state back.
        mersenne_dropout = crate::random::mersenne_dropout, outputs 3;
        /// `[grad_in, grad, mask (bool)]`, floats `[scale]`.
        dropout_backward = crate::random::dropout_backward, outputs 1, flops once;

        /// `[out, indices (i64), self]`, ints `[kernel, stride, padding, dilation]`, (height, width)
        /// each.
        max_pool2d = crate::pool::max, outputs 2, flops once;
        /// `[grad_in, grad_out, indices]`.
        max_pool2d_backward = crate::pool::max_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[kernel, stride, padding ((height, width) each), count_include_pad,
        /// divisor_override (0: none)]`.
        avg_pool2d = crate::pool::average, outputs 1, flops once;
        /// `[grad_in, grad_out]`, ints as avg_pool2d's.
        avg_pool2d_backward = crate::pool::average_backward, outputs 1, flops once;
        /// `[out, self]`.
        adaptive_avg_pool2d = crate::pool::adaptive_average, outputs 1, flops once;
        /// `[grad_in, grad_out]`.
        adaptive_avg_pool2d_backward = crate::pool::adaptive_average_backward, outputs 1, flops once;

        /// `[out, indices (i64), self]`, ints `[kernel, stride, padding, dilation]`, (depth, height,
        /// width) each.
        max_pool3d = crate::pool::max_pool3d, outputs 2, flops once;
        /// `[out, indices (i64), self]`, ints `[spatial dimensions]`.
        adaptive_max_pool = crate::pool::adaptive_max, outputs 2, flops once;
        /// `[out, indices (i64), self, samples]`, ints: the kernel.
        fractional_max_pool = crate::pool::fractional_max, outputs 2, flops once;
        /// `[out, self, indices (i64)]`, ints `[spatial dimensions, add]`: zeros, and each value at its
        /// index in its plane.
        unpool = crate::pool::unpool, outputs 1;
        /// `[out, self]`, ints `[kernel, stride, padding (each dimension's), count_include_pad,
        /// divisor_override (0: none)]`.
        average_windows = crate::resample::average_windows, outputs 1, flops once;
        /// `[grad_in, grad_out]`, ints as average_windows'.
        average_windows_backward = crate::resample::average_windows_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[spatial dimensions]`.
        adaptive_average = crate::resample::adaptive_average, outputs 1, flops once;
        /// `[grad_in, grad_out]`, ints `[spatial dimensions]`.
        adaptive_average_backward = crate::resample::adaptive_average_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[mode, align_corners]`, floats: each spatial dimension's scale, or 0.
        upsample = crate::resample::upsample, outputs 1, flops once;
        /// `[grad_in, grad_out]`, scalars as upsample's.
        upsample_backward = crate::resample::upsample_backward, outputs 1, flops once;
        /// `[out, self]`, ints `[reflect (else replicate), elements before the first of each dimension]`.
        pad = crate::resample::pad, outputs 1;
        /// `[grad_in, grad_out]`, ints as pad's.
        pad_backward = crate::resample::pad_backward, outputs 1, flops once;

        /// `[out, input, grid]`, ints `[interpolation (0 linear, 1 nearest, 2 cubic), padding (0 zeros, 1
        /// border, 2 reflection), align_corners]`.
        grid_sample = crate::grid_sample::grid_sample, outputs 1, flops once;
        /// `[grad_input?, grad_grid?, grad_out, input, grid]`, ints as grid_sample's.
        grid_sample_backward = crate::grid_sample::grid_sample_backward, outputs 2, flops once;
        // torchvision's.
        /// `[keep (i64, [N]), count (one i64), boxes ([N, 4]), order (i64, [N])]`, floats `[threshold]`.
        nms = crate::vision::nms, outputs 2;
        /// `[out, input, rois ([K, 5])]`, ints `[sampling_ratio, aligned]`, floats `[spatial_scale]`.
        roi_align = crate::vision::roi_align, outputs 1, flops once;
        /// `[grad_input, grad, rois]`, scalars as roi_align's.
        roi_align_backward = crate::vision::roi_align_backward, outputs 1, flops once;
        /// `[out, argmax (i32), input, rois]`, floats `[spatial_scale]`.
        roi_pool = crate::vision::roi_pool, outputs 2, flops once;
        /// `[grad_input, grad, rois, argmax (i32)]`, floats `[spatial_scale]`.
        roi_pool_backward = crate::vision::roi_pool_backward, outputs 1, flops once;
        /// `[out, channel_mapping (i32), input, rois]`, ints `[sampling_ratio]`, floats `[spatial_scale]`.
        ps_roi_align = crate::vision::ps_roi_align, outputs 2, flops once;
        /// `[grad_input, grad, rois, channel_mapping (i32)]`, scalars as ps_roi_align's.
        ps_roi_align_backward = crate::vision::ps_roi_align_backward, outputs 1, flops once;
        /// `[out, channel_mapping (i32), input, rois]`, floats `[spatial_scale]`.
        ps_roi_pool = crate::vision::ps_roi_pool, outputs 2, flops once;
        /// `[grad_input, grad, rois, channel_mapping (i32)]`, floats `[spatial_scale]`.
        ps_roi_pool_backward = crate::vision::ps_roi_pool_backward, outputs 1, flops once;
        /// `[columns, input, offset, mask?]`, ints `[kernel, stride, padding, dilation ((height, width) each), offset
        /// groups]`.
        deform_columns = crate::vision::deform_columns, outputs 1, flops once;
        /// `[grad_input, grad_offset, grad_mask?, grad_columns, input, offset, mask?]`, ints as deform_columns'.
        deform_columns_backward = crate::vision::deform_columns_backward, outputs 3, flops once;

        /// `[columns, images]`, ints `[kernel, dilation, padding, stride]`, (height, width) each.
        im2col = crate::unfold::im2col, outputs 1;
        /// `[images, columns]`, ints as im2col's.
        col2im = crate::unfold::col2im, outputs 1, flops once;

        /// `[out, mask (bool), self, scale?, zero_point?, enabled?]`, ints `[quant_min, quant_max, by channel,
        /// zero_point]`, floats `[scale]`.
        fake_quantize = crate::quantize::fake_quantize, outputs 2, flops once;
        /// `[grad_self, grad_scale, grad_zero_point, grad, self, scale, zero_point]` of one shape, ints `[quant_min,
        /// quant_max]`, floats `[grad_factor]`.
        fake_quantize_learnable_backward = crate::quantize::fake_quantize_learnable_backward, outputs 3, flops once;
        /// `[running_min, running_max, min, max]` of one dimension, floats `[averaging_const]`.
        moving_range = crate::quantize::moving_range, outputs 2, flops once;
        /// `[scale, zero_point (i32), min, max]` of one dimension, ints `[quant_min, quant_max, symmetric]`.
        choose_quantization = crate::quantize::choose_quantization, outputs 2, flops once;

        /// Another row over lists: results, then each input's list; ints `[results, the row's id,
        /// compute dtype, whether each tensor has a scalar of its own]` and scalars, floats: scalars.
        foreach = crate::loops::foreach::launch, outputs first_int, in_place;
        // One step over lists. `written` counts the views that are written: every list but the
        // gradients' is, and theirs comes last among the written ones where they are unscaled.
        /// Parameters, [momentum buffers,] gradients; ints `[written, nesterov, maximize,
        /// is_first_step]`, floats `[lr, momentum, dampening, weight_decay, grad_scale (0: none)]`.
        fused_sgd = crate::optim::sgd, outputs first_int, flops update;
        /// Parameters, moments, second moments, [their maxima,] gradients; ints `[written, amsgrad,
        /// maximize, decoupled (AdamW)]`, floats `[lr, beta1, beta2, weight_decay, eps, grad_scale
        /// (0: none)]`, then each tensor's step.
        fused_adam = crate::optim::adam, outputs first_int, flops update;
        /// Parameters, sums of squares, gradients; ints `[written, maximize]`, floats `[lr,
        /// lr_decay, weight_decay, eps, grad_scale (0: none)]`, then each tensor's step.
        fused_adagrad = crate::optim::adagrad, outputs first_int, flops update;
        /// Gradients, found_inf, inv_scale; ints `[written]`.
        amp_unscale = crate::optim::unscale, outputs first_int, flops once;
        /// Scale, growth_tracker, found_inf; ints `[growth_interval]`, floats `[growth_factor,
        /// backoff_factor]`.
        amp_update_scale = crate::optim::update_scale, outputs 2;

        // Reductions: the input's rank is kept, reduced dimensions have size one.
        /// `[output, input]`
        sum = crate::reduce::sum, outputs 1, flops once;
        /// `[output, input]`, floats
        nansum = crate::reduce::nansum, outputs 1;
        /// `[output, input]`
        mean = crate::reduce::mean, outputs 1, flops once;
        /// `[output, input]`
        prod = crate::reduce::prod, outputs 1, flops once;
        /// `[output, input]`
        amax = crate::reduce::amax, outputs 1, flops once;
        /// `[output, input]`
        amin = crate::reduce::amin, outputs 1, flops once;
        /// `[output, input]`
        any = crate::reduce::any, outputs 1, flops once;
        /// `[output, input]`
        all = crate::reduce::all, outputs 1, flops once;
        /// `[output, input]`
        count_nonzero = crate::reduce::count_nonzero, outputs 1, flops once;
        /// `[values, positions, input]`, either output may be absent
        max_position = crate::reduce::max_position, outputs 2, flops once;
        /// `[values, positions, input]`, either output may be absent
        min_position = crate::reduce::min_position, outputs 2, flops once;
        /// `[variance, mean, input]`, either output may be absent; ints `[root]`, floats `[correction]`
        variance = crate::reduce::variance, outputs 2, flops once;
        /// `[output, input]`; floats `[p]`
        norm = crate::reduce::norm, outputs 1, flops once;
        /// `[out, data, lengths (i64)]`: `[outer, segments, inner]`, `[outer, along, inner]`, `[outer,
        /// segments]`; ints `[reduction (0 max, 1 mean, 2 min, 3 sum, 4 product), has_initial]`, floats
        /// `[initial]`.
        segment_reduce = crate::reduce::segment_reduce, outputs 1;
        /// `[grad_data, grad, out, data, lengths (i64)]`, scalars as segment_reduce's.
        segment_reduce_backward = crate::reduce::segment_reduce_backward, outputs 1;
        /// `[output, input]`; ints `[dim]`
        cumsum = crate::reduce::cumsum, outputs 1, in_place, flops once;
        /// `[output, input]`; ints `[dim]`
        cumprod = crate::reduce::cumprod, outputs 1, in_place, flops once;
        /// `[output, input]`; ints `[dim]`
        logcumsumexp = crate::reduce::logcumsumexp, outputs 1;
        /// `[values, positions, input]`; ints `[dim]`
        cummax = crate::reduce::cummax, outputs 2;
        /// `[values, positions, input]`; ints `[dim]`
        cummin = crate::reduce::cummin, outputs 2;

        /// `[output, input]`; ints `[dim, log]`
        softmax = crate::softmax::softmax, outputs 1, in_place, flops normalise;
        /// `[grad_input, grad_output, output]`; ints `[dim, log]`
        softmax_backward = crate::softmax::softmax_backward, outputs 1, flops normalise;
        /// `[output, save_mean?, save_invstd?, running_mean?, running_var?, input, weight?, bias?]`;
        /// ints `[training]`, floats `[momentum, eps]`
        batch_norm = crate::norm::batch_norm, outputs 5, flops normalise;
        /// `[centre, scale, constant, save_mean?, save_invstd?, running_mean?, running_var?, input?, weight?,
        /// bias?]`; scalars as batch_norm's. All of it but the output, `(input - centre) * scale + constant`.
        batch_norm_coefficients = crate::norm::batch_norm_coefficients, outputs 7, flops once;
        /// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, weight?, mean, spread]`;
        /// ints `[training]`, floats `[eps]`; spread is the saved inverse deviation, or the running variance
        batch_norm_backward = crate::norm::batch_norm_backward, outputs 3, flops normalise;
        /// `[output, grad?, input, centre, of_grad?, of_input, constant?]`: `grad * of_grad + (input - centre) *
        /// of_input + constant`, the last four given for each channel.
        map_channels = crate::norm::map_channels, outputs 1, flops once;
        /// `[output, mean, rstd, input, weight?, bias?]`; ints `[groups]`, floats `[eps]`
        group_norm = crate::norm::group_norm, outputs 3, flops normalise;
        /// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, mean, rstd, weight?]`; ints `[groups]`
        group_norm_backward = crate::norm::group_norm_backward, outputs 3, flops normalise;
        /// `[output, mean, rstd, input, weight?, bias?]`, input `[M, N]`; floats `[eps]`
        layer_norm = crate::norm::layer_norm, outputs 3, flops normalise;
        /// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, mean, rstd, weight?]`
        layer_norm_backward = crate::norm::layer_norm_backward, outputs 3, flops normalise;
        /// `[input]`, ints `[whether it is the target]`; refuses what is not between 0 and 1, and writes nothing.
        expect_probabilities = crate::loss::expect_probabilities, outputs 0, flops once;
        /// `[output, total_weight, input, target, weight?]`; ints `[reduction, ignored class]`
        nll_loss = crate::loss::nll_loss, outputs 2, flops once;
        /// `[grad_input, grad_output, target, weight?, total_weight]`; ints `[reduction, ignored class]`
        nll_loss_backward = crate::loss::nll_loss_backward, outputs 1, flops once;
        /// `[out, input, target, weight?]`; ints `[p, reduction]`, floats `[margin]`
        multi_margin = crate::loss::multi_margin, outputs 1, flops once;
        /// `[grad_input, grad, input, target, weight?]`; scalars as multi_margin's
        multi_margin_backward = crate::loss::multi_margin_backward, outputs 1, flops once;
        /// `[out, is_target, input, target]`; ints `[reduction]`
        multilabel_margin = crate::loss::multilabel_margin, outputs 2, flops once;
        /// `[grad_input, grad, input, target]`; ints `[reduction]`
        multilabel_margin_backward = crate::loss::multilabel_margin_backward, outputs 1, flops once;
        /// `[loss, log_alpha, log_probs, targets]`; ints `[blank, zero_infinity, steps of each sample,
        /// labels of each sample]`
        ctc_loss = crate::loss::ctc_loss, outputs 2, flops once;
        /// `[grad_log_probs, grad, log_probs, targets, loss, log_alpha]`; ints as ctc_loss'
        ctc_loss_backward = crate::loss::ctc_loss_backward, outputs 1, flops once;
        /// `[out, x1, x2]`, `[batch, rows, width]` each; floats `[p]`
        cdist = crate::distance::cdist, outputs 1, flops distance;
        /// `[grad_x1, grad, x1, x2, distances]`; floats `[p]`
        cdist_backward = crate::distance::cdist_backward, outputs 1, flops distance_backward;
        /// `[out, self]`, of `[1, rows, width]`; floats `[p]`
        pdist = crate::distance::pdist, outputs 1, flops distance;
        /// `[grad_self, grad, self, distances]`; floats `[p]`
        pdist_backward = crate::distance::pdist_backward, outputs 1, flops distance_backward;
    } } };
}
pub(super) use with_kernels;
