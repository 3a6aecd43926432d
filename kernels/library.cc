// Which operators get which kernel. Compiled by build.py; `kernels.load` calls `install_kernels` once.
#include "atac.h"
#include "channels.h"
#include "context.h"
#include "elementwise.h"
#include "multi_tensor.h"
#include "norm.h"
#include "pools.h"
#include "positions.h"
#include "sge.h"

#if defined(__clang__) || !defined(__GLIBCXX__)
#error "MXNet's wheel needs GCC's OpenMP and C++ library: use g++"
#endif

extern "C" void install_kernels() {
  using namespace kernels;
  enum { kMul, kMulBackward, kScale, kScaleBackward, kShift, kShiftBackward, kMean, kMeanBackward };
  replace_plain<kMul>("elemwise_mul", product);
  replace_plain<kMulBackward>("_backward_mul", product_backward);
  replace_plain<kScale>("broadcast_mul", scale);
  replace_plain<kScaleBackward>("_backward_broadcast_mul", scale_backward);
  replace_plain<kShift>("broadcast_add", shift_channels);
  replace_plain<kShiftBackward>("_backward_broadcast_add", shift_channels_backward);
  replace_plain<kMean>("_contrib_AdaptiveAvgPooling2D", global_mean);
  replace_plain<kMeanBackward>("_backward_contrib_AdaptiveAvgPooling2D", global_mean_backward);
  replace_onednn("Activation", activation);
  replace_onednn("_backward_Activation", activation_backward);
  replace_onednn("elemwise_add", sum);
  replace_onednn("add_n", sum);
  register_atac();
  register_attend();
  register_multi_copy();
  register_multi_nag_update();
  register_norms();
  register_pools();
  register_sge();
}

extern "C" int64_t kernel_calls() { return kernels::calls(); }

extern "C" void make_plain(const kernels::NDArray* array) { kernels::make_plain(*array); }

extern "C" int take_gradients(kernels::NDArray* const* arrays, int count) {
  return kernels::take_gradients(arrays, count);
}
