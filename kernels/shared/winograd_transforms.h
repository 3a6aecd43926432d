// Winograd's minimal filtering F(2,3) and F(4,3) in one dimension: what goes into the products, and what comes out.
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
#pragma once
#include "vectors.h"

template <int M>
static inline void to_winograd(const V* d, V* r) {
  if constexpr (M == 4) {
    const V a = d[4] - d[2] * 4.0f, b = d[3] - d[1] * 4.0f, c = d[4] - d[2], e = (d[3] - d[1]) * 2.0f;
    r[0] = d[0] * 4.0f - d[2] * 5.0f + d[4];
    r[1] = a + b;
    r[2] = a - b;
    r[3] = c + e;
    r[4] = c - e;
    r[5] = d[1] * 4.0f - d[3] * 5.0f + d[5];
  } else {
    r[0] = d[0] - d[2];
    r[1] = d[1] + d[2];
    r[2] = d[2] - d[1];
    r[3] = d[1] - d[3];
  }
}

template <int M>
static inline void from_winograd(const V* d, V* r) {
  if constexpr (M == 4) {
    const V a = d[1] + d[2], b = d[1] - d[2], c = d[3] + d[4], e = d[3] - d[4];
    r[0] = d[0] + a + c;
    r[1] = b + e * 2.0f;
    r[2] = a + c * 4.0f;
    r[3] = b + e * 8.0f + d[5];
  } else {
    r[0] = d[0] + d[1] + d[2];
    r[1] = d[1] - d[2] - d[3];
  }
}
