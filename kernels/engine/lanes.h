// Vectors of floats as the compiler writes them, and the functions of one variable that activations and gates need.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "../shared/vectors.h"

// a > b ? a : b and a < b ? a : b, as the instructions are defined; GCC would take two for each.
#ifdef __AVX512F__
static inline V maxv(V a, V b) { return (V)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
static inline V minv(V a, V b) { return (V)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b); }
#else
static inline V maxv(V a, V b) { return (V)_mm256_max_ps((__m256)a, (__m256)b); }
static inline V minv(V a, V b) { return (V)_mm256_min_ps((__m256)a, (__m256)b); }
#endif
// NaN stays NaN: a comparison with it is false, so it has to be the value that a false one chooses.
static inline V relu(V v) { return maxv(all(0.0f), v); }
static inline V between(V v, V low, V high) { return minv(high, maxv(low, v)); }

static inline float total(V v) {
  float sum = 0;
  for (int l = 0; l < L; ++l) sum += v[l];
  return sum;
}

static inline V bits(VI v) { return (V)v; }

// e^x to 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 for e^r.
static inline V exponential(V x) {
  const V low = all(-87.33654f), high = all(88.0f);
  const V c = minv(maxv(x, low), high);
  const V magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
  const V t = c * 1.44269504f + magic;
  const V n = t - magic;
  const V r = (c - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const VI whole = (VI)t - (VI)magic;
  const V scale = bits((whole + 127) << 23);
  const V value = p * scale;
  return x == x ? (x < low ? all(0.0f) : value) : x;
}

// 1 / x to a unit in the last place, for x from 1 on; of numbers above 2^126 it may be 0.
static inline V reciprocal(V x) {
#ifdef __AVX512F__
  // An estimate to 14 bits and a step of Newton's method take a third of the time of a division.
  const V r = (V)_mm512_rcp14_ps((__m512)x);
  return r + r * (1.0f - x * r);
#else
  return 1.0f / x;
#endif
}

static inline V sigmoid(V x) { return reciprocal(1.0f + exponential(-x)); }

// The same to some 13 bits, for results that are stored in bfloat16, which has eight.
#ifdef __AVX512F__
static inline V quick_sigmoid(V x) {
  const V t = between(x * -1.44269504f, all(-126.0f), all(126.0f));
  const V n = (V)_mm512_roundscale_ps((__m512)t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const V f = t - n;  // 2^f by its series, |f| <= 1 / 2
  const V p = 1.0f + f * (0.69314718f + f * (0.24022651f + f * (0.05550411f + f * 0.00961813f)));
  return (V)_mm512_rcp14_ps(1.0f + _mm512_scalef_ps((__m512)p, (__m512)n));
}
#else
static inline V quick_sigmoid(V x) { return sigmoid(x); }
#endif

static inline V tangent(V x) {  // tanh; the series near 0, where 1 - 2 / (1 + e^2x) would cancel
  const V far = 1.0f - 2.0f / (1.0f + exponential(2.0f * x));
  const V s = x * x;
  const V near = x * (1.0f + s * (-0.333333333f + s * (0.133333333f + s * (-0.0539682540f + s * 0.0218694885f))));
  const V size = maxv(x, -x);
  return size < all(0.25f) ? near : far;
}

// The error function to 2e-7 (Abramowitz and Stegun, 7.1.26 refined: a rational form in each of two ranges).
static inline V error_function(V x) {
  const V a = maxv(x, -x);
  // |x| < 1: x times a polynomial in x^2
  const V s = x * x;
  V p = all(7.853861353153693e-5f);
  p = p * s - 8.010193625184903e-4f;
  p = p * s + 5.188327685732524e-3f;
  p = p * s - 2.685381193529856e-2f;
  p = p * s + 1.128358514861418e-1f;
  p = p * s - 3.761262582423300e-1f;
  p = p * s + 1.128379165726710f;
  const V near = x * p;
  // otherwise 1 - t (polynomial in t) e^(-x^2), t = 1 / (1 + 0.3275911 |x|)
  const V t = 1.0f / (1.0f + 0.3275911f * a);
  const V q = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const V rest = 1.0f - q * exponential(-s);
  const V far = x < all(0.0f) ? -rest : rest;
  return a < all(1.0f) ? near : far;
}
