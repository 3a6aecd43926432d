// Which operators get which kernel. Compiled by build.py; `kernels.load` calls `install_kernels` once.
#include "bfloat16_channels.h"
#include "bfloat16_convolutions.h"
#include "bfloat16_elementwise.h"
#include "bfloat16_norm.h"
#include "bfloat16_positions.h"
#include "channels.h"
#include "context.h"
#include "convolution.h"
#include "elementwise.h"
#include "fused_operators.h"
#include "merge.h"
#include "multi_tensor.h"
#include "muon.h"
#include "pool.h"
#include "positions.h"
#include "sge.h"
#include "single_map.h"

#if defined(__clang__) || !defined(__GLIBCXX__)
#error "MXNet's wheel needs GCC's OpenMP and C++ library: use g++"
#endif

#ifdef __AVX512BF16__
#define OR_NARROW(name) either<name, narrow::name>
#else
#define OR_NARROW(name) name
#endif

extern "C" void install_kernels() {
  using namespace kernels;
  enum { kMul, kMulBackward, kScale, kScaleBackward, kShift, kShiftBackward, kMean, kMeanBackward, kClip, kClipBackward };
  replace_plain<kMul>("elemwise_mul", OR_NARROW(product));
  replace_plain<kMulBackward>("_backward_mul", OR_NARROW(product_backward));
  replace_plain<kScale>("broadcast_mul", OR_NARROW(scale));
  replace_plain<kScaleBackward>("_backward_broadcast_mul", OR_NARROW(scale_backward));
  replace_plain<kShift>("broadcast_add", OR_NARROW(shift_channels));
  replace_plain<kShiftBackward>("_backward_broadcast_add", OR_NARROW(shift_channels_backward));
  replace_plain<kMean>("_contrib_AdaptiveAvgPooling2D", OR_NARROW(global_mean));
  replace_plain<kMeanBackward>("_backward_contrib_AdaptiveAvgPooling2D", OR_NARROW(global_mean_backward));
  replace_onednn("Convolution", convolution);
  replace_onednn("_backward_Convolution", convolution_backward);
  replace_plain<kClip>("clip", OR_NARROW(clip));
  replace_plain<kClipBackward>("_backward_clip", OR_NARROW(clip_backward));
  replace_onednn("Activation", activation);
  replace_onednn("_backward_Activation", activation_backward);
  replace_onednn("elemwise_add", sum);
  replace_onednn("add_n", sum);
#ifdef __AVX512BF16__  // the replacements above go on with what these decline
  replace_onednn("Activation", narrow::activation);
  replace_onednn("_backward_Activation", narrow::activation_backward);
  replace_onednn("elemwise_add", narrow::sum);
  replace_onednn("add_n", narrow::sum);
  replace_onednn("BatchNorm", narrow::batch_norm);
  replace_onednn("_backward_BatchNorm", narrow::batch_norm_backward);
#endif
#ifdef KERNELS_HAVE_TILES
  replace_onednn("Convolution", narrow::convolution);
  replace_onednn("_backward_Convolution", narrow::convolution_backward);
#endif
  register_atac();
  register_attend();
  register_merges();
  register_multi_copy();
  register_multi_nag_update();
  register_multi_muon_update();
  register_norms();
  register_pools();
  register_sge();
  register_single_map();
}

// Whether there are kernels for bfloat16 maps.
extern "C" int has_narrow() {
#ifdef KERNELS_HAVE_TILES
  return kernels::narrow::has_tiles();
#else
  return 0;
#endif
}

extern "C" int64_t kernel_calls() { return kernels::calls(); }

extern "C" void make_plain(const kernels::NDArray* array) { kernels::make_plain(*array); }

extern "C" int take_gradients(kernels::NDArray* const* arrays, int count) {
  return kernels::take_gradients(arrays, count);
}

extern "C" int pool_memory() { return kernels::PooledStorage::install(); }
