// Vectors of floats as the compiler writes them, as wide as the processor's.
#pragma once
#include <immintrin.h>

#include <cstdint>

#ifdef __AVX512F__
constexpr int L = 16;
#else
constexpr int L = 8;
#endif

typedef float V __attribute__((vector_size(L * 4), aligned(4), may_alias));
typedef int32_t VI __attribute__((vector_size(L * 4), aligned(4), may_alias));

static inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
static inline void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
static inline V all(float f) { return f - V{}; }
