// Depthwise convolutions of bfloat16 maps: see depthwise.h.
#ifndef KERNELS_BFLOAT16_DEPTHWISE_H_
#define KERNELS_BFLOAT16_DEPTHWISE_H_

#include "bfloat16_convolution.h"
#include "depthwise.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

struct ByChannels {
  typedef Bits Number;
  typedef Simd<kVector>::Floats Floats;
  static constexpr int lanes = kVector;
  static int64_t channels_of_plane(int64_t channels) { return channels; }
  static Floats load(const Bits* from, int64_t count) { return (Floats)narrow::load(from, narrow::lanes(count)); }
  static void store(Bits* to, Floats values, int64_t count) { narrow::store(to, (__m512)values, narrow::lanes(count)); }
};

inline depthwise::Convolution<ByChannels> depthwise_of(const Geometry& g) {
  return depthwise::Convolution<ByChannels>({g.samples, g.channels, g.height, g.width, g.out_height, g.out_width,
                                             g.kernel_height, g.stride, g.top, g.left});
}

inline std::vector<float> as_floats(const Bits* from, int64_t count) {
  std::vector<float> all(count);
  for (int64_t k = 0; k < count; ++k) all[k] = _mm512_cvtss_f32(load(from + k, 1));
  return all;
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_DEPTHWISE_H_
