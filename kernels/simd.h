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

}  // namespace kernels

#endif  // KERNELS_SIMD_H_
