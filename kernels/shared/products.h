// The inner loop of convolutions of maps in blocks of L channels.
//
// It computes U positions of B blocks of output channels at once: U B registers of sums, to which each input channel adds
// its value, spread over the lanes, times a vector of weights for every block. Weights come packed in the order of use:
// (panel of B blocks, input block, step within it, input lane, B L outputs).
#pragma once
#include "vectors.h"

#ifdef __AVX512F__
constexpr int WIDEST = 12;  // positions: 24 sums, 2 vectors of weights, the rest for values
#else
constexpr int WIDEST = 6;
#endif
template <int B>
constexpr int widest() {
  return B == 2 ? WIDEST : 2 * WIDEST;
}

constexpr int LINE = 16;        // floats of a line of the cache
constexpr int64_t AHEAD = 48;   // input channels: found by trial, 24 is nearly as good

// `later` are weights that are needed soon, of which each channel fetches `pace` floats into the second-level cache.
template <int U, int B, int K>
static inline void products(const float* x, const int64_t* offsets, int64_t steps, int64_t lanes, int64_t pitch,
                            const float* w, V (&sums)[U][B], const float* later = nullptr, int64_t pace = 0) {
  V a[U][B];
#pragma GCC unroll 24
  for (int u = 0; u < U; ++u)
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) a[u][b] = V{};
  for (int64_t s = 0; s < steps; ++s) {
    const float* from = x + offsets[s];
    const int64_t end = K ? K : lanes;
#pragma GCC unroll 4
    for (int64_t l = 0; l < end; ++l) {
      V wv[B];
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) wv[b] = load(w + b * L);
      // Weights come from the second-level cache or from memory, in the order of use, so they are prefetched.
#pragma GCC unroll 2
      for (int b = 0; b < B * L; b += LINE) __builtin_prefetch(w + AHEAD * B * L + b);
      w += B * L;
      if (later) {
        __builtin_prefetch(later, 0, 2);
        later += pace;
      }
#pragma GCC unroll 24
      for (int u = 0; u < U; ++u) {
        const V value = all(from[u * pitch + l]);
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) a[u][b] += value * wv[b];
      }
    }
  }
#pragma GCC unroll 24
  for (int u = 0; u < U; ++u)
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) sums[u][b] = a[u][b];
}
