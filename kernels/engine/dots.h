// Sums of products of narrow numbers: several in each lane at a time, or in tiles if the processor has them.
//
// A *word* of 4 bytes holds 4 bytes or 2 bfloat16 of neighbouring channels. The instructions for it multiply each of a
// word of inputs, spread over the lanes, with each of a word of weights, and add the products to the lane's sum. AMX does
// so for 16 positions by L outputs by up to 16 words in one instruction. Weights are packed for both alike: (run, piece of
// up to 16 words, block of outputs, word, output, numbers of the word).
#pragma once
#include <sys/syscall.h>
#include <unistd.h>

#include "narrow_ending.h"

// Where the inputs of a position lie, and the weights of a panel.
struct Runs {
  const int64_t* offsets;  // bytes from the position's first input to each run
  int64_t count, words;    // of a run
  int64_t pieces, piece;   // of a run, and words of each, the last of which may be filled up with zeros
  int64_t step;            // bytes from a position to the next
  const uint8_t* weights;
};

#ifdef __AVX512F__
struct DotBytes {
  typedef __m512i Sum;
  static inline __attribute__((always_inline, target("avx512vnni"))) void add(Sum& sum, __m512i x, __m512i w) {
    sum = _mm512_dpbusd_epi32(sum, x, w);
  }
};
struct DotBfloat16 {
  typedef __m512 Sum;
  static inline __attribute__((always_inline, target("avx512bf16"))) void add(Sum& sum, __m512i x, __m512i w) {
    sum = _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
  }
};
typedef __m512i Words;
#define SPREAD(word) _mm512_set1_epi32(word)
#define TARGET_BYTES target("avx512vnni")
#define TARGET_BFLOAT16 target("avx512bf16")
constexpr int ACROSS = 12;  // positions: see convolution.h
#else
struct DotBytes {
  typedef __m256i Sum;
  static inline __attribute__((always_inline, target("avxvnni"))) void add(Sum& sum, __m256i x, __m256i w) {
    sum = _mm256_dpbusd_avx_epi32(sum, x, w);
  }
};
typedef __m256i Words;
#define SPREAD(word) _mm256_set1_epi32(word)
#define TARGET_BYTES target("avxvnni")
constexpr int ACROSS = 6;
#endif

// U positions of B blocks. The body stands in a macro, because a function takes its instruction sets from its attribute.
#define DOTS(NAME, DOT, TARGET)                                                                                   \
  template <int U, int B>                                                                                         \
  __attribute__((TARGET)) static void NAME(const uint8_t* x, const Runs& runs, int32_t* sums) {                   \
    DOT::Sum a[U][B];                                                                                             \
    _Pragma("GCC unroll 24") for (int u = 0; u < U; ++u)                                                          \
      _Pragma("GCC unroll 2") for (int b = 0; b < B; ++b) a[u][b] = DOT::Sum{};                                   \
    const uint8_t* w = runs.weights;                                                                              \
    for (int64_t r = 0; r < runs.count; ++r) {                                                                    \
      const uint8_t* from = x + runs.offsets[r];                                                                  \
      for (int64_t first = 0; first < runs.words; first += runs.piece, w += B * runs.piece * L * 4) {             \
        const int64_t count = std::min(runs.piece, runs.words - first);                                           \
        for (int64_t k = 0; k < count; ++k, from += 4) {                                                          \
          Words wv[B];                                                                                            \
          _Pragma("GCC unroll 2") for (int b = 0; b < B; ++b)                                                     \
            memcpy(&wv[b], w + (b * runs.piece + k) * L * 4, sizeof(Words));                                      \
          _Pragma("GCC unroll 24") for (int u = 0; u < U; ++u) {                                                  \
            int32_t word;                                                                                         \
            memcpy(&word, from + u * runs.step, 4);                                                               \
            const Words value = SPREAD(word);                                                                     \
            _Pragma("GCC unroll 2") for (int b = 0; b < B; ++b) DOT::add(a[u][b], value, wv[b]);                  \
          }                                                                                                       \
        }                                                                                                         \
      }                                                                                                           \
    }                                                                                                             \
    _Pragma("GCC unroll 24") for (int u = 0; u < U; ++u)                                                          \
      _Pragma("GCC unroll 2") for (int b = 0; b < B; ++b) memcpy(sums + (2 * u + b) * L, &a[u][b], sizeof(Words)); \
  }
DOTS(dot_bytes, DotBytes, TARGET_BYTES)
#ifdef __AVX512F__
DOTS(dot_bfloat16, DotBfloat16, TARGET_BFLOAT16)
#endif
#undef DOTS

typedef void (*Dots)(const uint8_t*, const Runs&, int32_t*);
template <int KIND, int B>
struct DotsTable {
  Dots of[ACROSS + 1];
  constexpr DotsTable() : of() { fill<1>(); }
  template <int U>
  constexpr void fill() {
    if constexpr (KIND == BYTES) of[U] = dot_bytes<U, B>;
#ifdef __AVX512F__
    else of[U] = dot_bfloat16<U, B>;
#endif
    if constexpr (U < ACROSS) fill<U + 1>();
  }
};

template <int KIND, int B>
static inline void dots(int64_t count, const uint8_t* x, const Runs& runs, int32_t* sums) {
  static constexpr DotsTable<KIND, B> table;
  int64_t left = (count + ACROSS - 1) / ACROSS;
  for (int64_t p = 0; left > 0; --left) {
    const int64_t u = (count - p + left - 1) / left;
    table.of[u](x + p * runs.step, runs, sums + p * 2 * L);
    p += u;
  }
}

// --- what the processor has ------------------------------------------------------------------------------------------

static inline bool multiplies(Kind kind) {
#ifdef __AVX512F__
  return kind == BYTES ? __builtin_cpu_supports("avx512vnni") : has_bfloat16();
#else
  if (kind != BYTES) return false;
  uint32_t a = 7, b, c = 1, d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return a >> 4 & 1;  // AVX-VNNI
#endif
}

#if defined(__AVX512F__) && __GNUC__ >= 11
#define HAS_TILES
// Whether there are tiles for numbers of a kind, and Linux lets this process use them; it is asked only once.
static inline bool has_tiles(Kind kind) {
  static const uint32_t has = [] {
    uint32_t a = 7, b, c = 0, d;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    constexpr uint32_t TILE = 1u << 24;
    if (!(d & TILE)) return 0u;
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;  // arch_prctl's ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0 ? d : 0u;
  }();
  return has >> (kind == BYTES ? 25 : 22) & 1;
}

// Tiles 0 to 3 are sums: of the first and second 16 positions, and of the blocks; 4, 5 inputs; 6, 7 weights.
class Tiles16 {
 public:
  __attribute__((target("amx-tile"))) Tiles16(int64_t rows, int64_t words) {
    struct alignas(64) { uint8_t palette = 1, start = 0, none[14] = {}; uint16_t bytes[16] = {}; uint8_t rows[16] = {}; } set;
    for (int t = 0; t < 8; ++t) {
      set.bytes[t] = uint16_t(t == 4 || t == 5 ? words * 4 : 64);
      set.rows[t] = uint8_t(t >= 6 ? words : rows);
    }
    asm volatile("" : : "r"(&set) : "memory");  // GCC takes the instructions below to read eight bytes, or none
    _tile_loadconfig(&set);
  }
  __attribute__((target("amx-tile"))) ~Tiles16() { _tile_release(); }
  Tiles16(const Tiles16&) = delete;
};

#define TILE_PRODUCTS(NAME, PRODUCT, TARGET)                                                                     \
  template <int M, int B>                                                                                        \
  __attribute__((target("amx-tile," TARGET))) static void NAME(const uint8_t* x, int64_t second, const Runs& runs, \
                                                               int32_t* sums) {                                  \
    asm volatile("" : : : "memory");                                                                             \
    _tile_zero(0);                                                                                               \
    if (B == 2) _tile_zero(1);                                                                                   \
    if (M == 2) _tile_zero(2);                                                                                   \
    if (M == 2 && B == 2) _tile_zero(3);                                                                         \
    const uint8_t* w = runs.weights;                                                                             \
    const size_t step = size_t(runs.step);                                                                       \
    for (int64_t r = 0; r < runs.count; ++r) {                                                                   \
      const uint8_t* from = x + runs.offsets[r];                                                                 \
      for (int64_t piece = 0; piece < runs.pieces; ++piece, from += 64, w += B * runs.piece * 64) {              \
        _tile_loadd(6, w, 64);                                                                                   \
        _tile_loadd(4, from, step);                                                                              \
        PRODUCT(0, 4, 6);                                                                                        \
        if (B == 2) _tile_loadd(7, w + runs.piece * 64, 64);                                                     \
        if (B == 2) PRODUCT(1, 4, 7);                                                                            \
        if (M == 2) _tile_loadd(5, from + second * runs.step, step);                                             \
        if (M == 2) PRODUCT(2, 5, 6);                                                                            \
        if (M == 2 && B == 2) PRODUCT(3, 5, 7);                                                                  \
      }                                                                                                          \
    }                                                                                                            \
    int32_t* next = sums + second * 2 * L;                                                                       \
    _tile_stored(0, sums, 2 * L * 4);                                                                            \
    if (B == 2) _tile_stored(1, sums + L, 2 * L * 4);                                                            \
    if (M == 2) _tile_stored(2, next, 2 * L * 4);                                                                \
    if (M == 2 && B == 2) _tile_stored(3, next + L, 2 * L * 4);                                                  \
  }
TILE_PRODUCTS(tile_bytes, _tile_dpbusd, "amx-int8")
TILE_PRODUCTS(tile_bfloat16, _tile_dpbf16ps, "amx-bf16")
#undef TILE_PRODUCTS
#endif
