// Floats side by side, and the functions of them that C++ has no vectors for.
#ifndef KERNELS_SIMD_H_
#define KERNELS_SIMD_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace kernels {

template <int lanes>
struct Simd {
  typedef float Floats __attribute__((vector_size(lanes * 4), aligned(4)));
  typedef int32_t Integers __attribute__((vector_size(lanes * 4), aligned(4)));

  static Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
  static void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }
  static Floats all(float value) { return value - Floats{}; }

  // e^x to the last bit or two: 2^n times a polynomial on half a unit around 0 (Cephes' coefficients, as in most
  // libraries). Between e^-87 and e^88; NaN stays NaN.
  static Floats exponential(Floats x) {
    x = x < all(-87.3f) ? all(-87.3f) : x;
    x = x > all(88.3f) ? all(88.3f) : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, in its last bits
    const Floats shifted = x * 1.44269504f + magic;
    const Floats n = shifted - magic;
    const Floats r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    Floats p = r * 1.98756915e-4f + 1.39819994e-3f;
    p = p * r + 8.33345205e-3f;
    p = p * r + 4.16657962e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + (r + 1.0f);
    const Integers scale = ((Integers)shifted << 23) + 0x3f800000;
    return p * (Floats)scale;
  }

  // 1 / x for finite x, from the processor's estimate if it has one.
  static Floats reciprocal(Floats x) {
    Floats guess = guess_reciprocal(x);
    return guess * (2.0f - x * guess);
  }

  static Floats sigmoid(Floats x) { return reciprocal(1.0f + exponential(-x)); }

#ifdef __AVX512BF16__
  // bfloat16 numbers, which are floats in registers.
  static Floats load(const uint16_t* from);
  static void store(uint16_t* to, Floats values);
  // To 13 binary digits, where bfloat16 has 8.
  static Floats rough_sigmoid(Floats x);
#endif

 private:
  static Floats guess_reciprocal(Floats x);
};

template <int lanes>
typename Simd<lanes>::Floats Simd<lanes>::guess_reciprocal(Floats x) {
  return 1.0f / x;
}

#ifdef __AVX512F__
template <>
inline Simd<16>::Floats Simd<16>::guess_reciprocal(Floats x) {
  return _mm512_maskz_rcp14_ps(0xffff, x);
}
#endif

#ifdef __AVX512BF16__
template <>
inline Simd<16>::Floats Simd<16>::load(const uint16_t* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}

template <>
inline Simd<8>::Floats Simd<8>::load(const uint16_t* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
}

template <>
inline void Simd<16>::store(uint16_t* to, Floats values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(values));
}

template <>
inline void Simd<8>::store(uint16_t* to, Floats values) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), (__m128i)_mm256_cvtneps_pbh(values));
}

// 2^x is 2^n for the next lower integer n, times a cubic polynomial of the rest (least relative error, 2^-13.7).
template <class Floats>
inline Floats power_of_rest(Floats rest) {
  return ((0.07802443f * rest + 0.22606731f) * rest + 0.69583347f) * rest + 0.99992523f;
}

template <>
inline Simd<16>::Floats Simd<16>::rough_sigmoid(Floats x) {
  const __m512 t = x * -1.44269504f;
  const __m512 power = _mm512_scalef_ps(power_of_rest(_mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF)), t);
  return _mm512_rcp14_ps(1.0f + power);
}

template <>
inline Simd<8>::Floats Simd<8>::rough_sigmoid(Floats x) {
  const __m256 t = x * -1.44269504f;
  const __m256 power = _mm256_scalef_ps(power_of_rest(_mm256_reduce_ps(t, _MM_FROUND_TO_NEG_INF)), t);
  return _mm256_rcp14_ps(1.0f + power);
}
#endif

}  // namespace kernels

#endif  // KERNELS_SIMD_H_
