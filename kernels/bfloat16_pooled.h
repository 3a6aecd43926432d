// Maxima and sums over the channels of bfloat16 maps, for 16 positions at a time.
//
// A position's channels lie side by side, so that both are sums and maxima across a register, which take twenty operations
// each. For 16 registers together they take 45.
#ifndef KERNELS_BFLOAT16_POOLED_H_
#define KERNELS_BFLOAT16_POOLED_H_

#include <algorithm>
#include <limits>

#include "bfloat16.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

// What `merge` makes of the 16 numbers of each of 16 registers; the first two are merged first.
template <class Merge>
inline __attribute__((always_inline)) __m512 across(const __m512* from, Merge merge) {
  __m512 pairs[8], fours[4], eights[2];
  for (int k = 0; k < 8; ++k) {
    const __m512 a = from[2 * k], b = from[2 * k + 1];
    pairs[k] = merge(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  }
  for (int k = 0; k < 4; ++k) {
    const __m512d a = _mm512_castps_pd(pairs[2 * k]), b = _mm512_castps_pd(pairs[2 * k + 1]);
    fours[k] = merge(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  const auto halved = [&](__m512 a, __m512 b) {
    return merge(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  for (int k = 0; k < 2; ++k) eights[k] = halved(fours[2 * k], fours[2 * k + 1]);
  return halved(eights[0], eights[1]);
}

// The maxima over the channels of 16 positions, the first channels that have them, and the sums.
struct Pooled {
  __m512 most, place, sum;
};

// A number and its channel as an integer: the larger of two has the larger number, or the same and the smaller channel.
inline __m512i key_of(__m512 value, __m512i channels) {
  const __m512i bits = _mm512_castps_si512(value + 0.0f);  // there are two zeros
  const __m512i negative = _mm512_and_epi32(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(0x7fff0000));
  return _mm512_or_epi32(_mm512_xor_epi32(bits, negative), channels);
}

inline __m512 number_of_key(__m512i key) {
  const __m512i bits = _mm512_andnot_epi32(_mm512_set1_epi32(0xffff), key);
  const __m512i negative = _mm512_and_epi32(_mm512_srai_epi32(key, 31), _mm512_set1_epi32(0x7fff0000));
  return _mm512_castsi512_ps(_mm512_xor_epi32(bits, negative));
}

// Of `count` positions; the others are as the last one.
template <class L>
Pooled pool_positions(const Bits* x, int64_t channels, int64_t count) {
  const __m512i counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i last = _mm512_set1_epi32(0xffff);
  __m512 best[kVector], total[kVector];
  for (int64_t p = 0; p < kVector; ++p) {
    const Bits* own = x + std::min(p, count - 1) * channels;
    __m512i most = _mm512_set1_epi32(std::numeric_limits<int32_t>::min());
    total[p] = _mm512_setzero_ps();
    for (int64_t c = 0; c < channels; c += kVector) {
      const __mmask16 mask = lanes(channels - c);
      const __m512 value = L::load(own + c, mask);
      const __m512i key = key_of(value, _mm512_sub_epi32(last, _mm512_add_epi32(counted, _mm512_set1_epi32(c))));
      most = _mm512_mask_max_epi32(most, mask, most, key);
      total[p] += value;
    }
    best[p] = _mm512_castsi512_ps(most);
  }
  const __m512 most = across(best, [](__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  });
  const __m512i key = _mm512_castps_si512(most);
  const __m512i channel = _mm512_sub_epi32(last, _mm512_and_epi32(key, last));
  return {number_of_key(key), _mm512_cvtepi32_ps(channel), across(total, [](__m512 a, __m512 b) { return a + b; })};
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_POOLED_H_
