// torch.autocast("rustorch"): the same ops in the same precision as torch.autocast("cpu"). PyTorch's lists
// for devices (`AT_FORALL_*`) are CUDA's, which differ.
#include <ATen/Operators.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace at::autocast {

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
  // The CPU's too. It is kept by the thread: others than the one that loads this have PyTorch's, float16.
  set_autocast_dtype(kPrivateUse1, kBFloat16);
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FP32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define PROMOTE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  // In the lower precision.
  LOWER(conv1d) LOWER(conv1d, padding) LOWER(conv2d) LOWER(conv2d, padding) LOWER(conv3d)
  LOWER(conv3d, padding) LOWER(conv_tbc) LOWER(conv_transpose1d) LOWER(conv_transpose2d, input)
  LOWER(conv_transpose3d, input) LOWER(_convolution, deprecated) LOWER(mm) LOWER(bmm) LOWER(addmm)
  LOWER(_addmm_activation) LOWER(addbmm) LOWER(baddbmm) LOWER(matmul) LOWER(linear) LOWER(linalg_vecdot)
  LOWER(prelu) LOWER(scaled_dot_product_attention) LOWER(_native_multi_head_attention)
  LOWER(mkldnn_rnn_layer)

  // To the widest of the operands'.
  PROMOTE(stack) PROMOTE(cat) PROMOTE(index_copy)

  // What recurrent layers call on devices, where the CPU has `mkldnn_rnn_layer` and plain ops.
  LOWER(lstm, input) PROMOTE(_thnn_fused_lstm_cell) PROMOTE(_thnn_fused_gru_cell)

  // In f32: pooling, padding, sampling.
  FP32(avg_pool3d) FP32(max_pool3d) FP32(adaptive_avg_pool3d) FP32(adaptive_max_pool3d)
  FP32(fractional_max_pool2d) FP32(fractional_max_pool3d) FP32(max_unpool2d) FP32(max_unpool3d)
  FP32(reflection_pad1d) FP32(reflection_pad2d) FP32(replication_pad1d) FP32(replication_pad2d)
  FP32(replication_pad3d) FP32(grid_sampler) FP32(grid_sampler_2d) FP32(_grid_sampler_2d_cpu_fallback)
  FP32(grid_sampler_3d)

  // In f32: losses.
  FP32(binary_cross_entropy) FP32(binary_cross_entropy_with_logits) FP32(cosine_embedding_loss)
  FP32(cross_entropy_loss) FP32(ctc_loss, IntList) FP32(ctc_loss, Tensor) FP32(hinge_embedding_loss)
  FP32(huber_loss) FP32(kl_div) FP32(l1_loss) FP32(margin_ranking_loss) FP32(mse_loss)
  FP32(multi_margin_loss) FP32(multilabel_margin_loss) FP32(multilabel_margin_loss_forward) FP32(nll_loss)
  FP32(nll_loss2d) FP32(poisson_nll_loss) FP32(smooth_l1_loss) FP32(soft_margin_loss)
  FP32(triplet_margin_loss)

  // In f32: reductions, distances, others.
  FP32(prod) FP32(prod, dim_int) FP32(quantile) FP32(quantile, scalar) FP32(nanquantile)
  FP32(nanquantile, scalar) FP32(trace) FP32(cdist) FP32(polar) FP32(view_as_complex)
  FP32(fake_quantize_per_tensor_affine) FP32(stft) FP32(stft, center)

  // In f32: Fourier transforms.
  FP32(fft_fft) FP32(fft_ifft) FP32(fft_fft2) FP32(fft_ifft2) FP32(fft_fftn) FP32(fft_ifftn)
  FP32(fft_rfft) FP32(fft_irfft) FP32(fft_rfft2) FP32(fft_irfft2) FP32(fft_rfftn) FP32(fft_irfftn)
  FP32(fft_hfft) FP32(fft_ihfft)

  // In f32: linear algebra.
  FP32(cholesky_inverse) FP32(cholesky_solve) FP32(inverse) FP32(pinverse) FP32(lu_solve)
  FP32(_lu_with_info) FP32(geqrf) FP32(orgqr) FP32(ormqr) FP32(svd) FP32(triangular_solve)
  FP32(linalg_cholesky) FP32(linalg_cholesky_ex) FP32(linalg_cond) FP32(linalg_cond, p_str)
  FP32(linalg_eig) FP32(linalg_eigh) FP32(linalg_eigvals) FP32(linalg_eigvalsh)
  FP32(linalg_householder_product) FP32(linalg_inv) FP32(linalg_inv_ex) FP32(linalg_lstsq)
  FP32(linalg_matrix_rank) FP32(linalg_matrix_rank, tol_tensor) FP32(linalg_matrix_rank, atol_rtol_tensor)
  FP32(linalg_matrix_rank, atol_rtol_float) FP32(linalg_matrix_sqrth) FP32(linalg_qr) FP32(linalg_solve)
  FP32(linalg_svd) FP32(linalg_svdvals) FP32(linalg_tensorinv) FP32(linalg_tensorsolve)
}

}  // namespace at::autocast
