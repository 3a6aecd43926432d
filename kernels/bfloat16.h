// bfloat16 maps. They lie as (N, H, W, C), the channels of a position side by side, as AMX's tiles take them.
//
// Numbers are bits until they are in registers, where they are floats: sums, statistics and products are taken there.
#ifndef KERNELS_BFLOAT16_H_
#define KERNELS_BFLOAT16_H_

#ifdef __AVX512BF16__

#include <immintrin.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "layout.h"

namespace kernels {
namespace narrow {

typedef uint16_t Bits;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

typedef std::unique_ptr<Bits[], Free> Buffer;

constexpr int64_t kVector = 16;  // numbers in a register

inline __mmask16 lanes(int64_t count) { return count >= kVector ? 0xffff : (1u << count) - 1; }

inline __m512 wide(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
inline __m512 load(const Bits* from) { return wide(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
inline __m512 load(const Bits* from, __mmask16 mask) { return wide(_mm256_maskz_loadu_epi16(mask, from)); }
inline void store(Bits* to, __m512 values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(values));
}
inline void store(Bits* to, __m512 values, __mmask16 mask) {
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(values));
}

// Room for numbers, from the beginning of a line of the cache: a tile whose rows lie across lines takes up to six times as
// long to load.
template <class Number>
inline std::unique_ptr<Number[], Free> room(int64_t count) {
  constexpr int64_t line = 64;
  void* const memory = std::aligned_alloc(line, (count * sizeof(Number) + line) / line * line);
  if (memory == nullptr) throw std::bad_alloc();
  return std::unique_ptr<Number[], Free>(static_cast<Number*>(memory));
}

inline Buffer zeros(int64_t count) {
  Buffer numbers = room<Bits>(count);
  std::memset(numbers.get(), 0, count * sizeof(Bits));
  return numbers;
}

inline Bits rounded(float value) {
  return static_cast<Bits>(_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0));
}

inline bool is_narrow(const NDArray& array) {
  return array.storage_type() == mxnet::kDefaultStorage && array.dtype() == mshadow::kBfloat16;
}

inline bool are_narrow(const Arrays& arrays) { return std::all_of(arrays.begin(), arrays.end(), is_narrow); }

inline int64_t area(const mxnet::TShape& shape) { return shape[2] * shape[3]; }

inline mkldnn::memory::desc by_position(const mxnet::TShape& shape) {
  mkldnn_memory_desc_t description = described(shape, mkldnn_bf16);
  auto& strides = description.format_desc.blocking.strides;
  strides[0] = shape.Size() / shape[0];
  strides[1] = 1;
  strides[2] = shape[3] * shape[1];
  strides[3] = shape[1];
  return mkldnn::memory::desc(description);
}

inline Bits* bits(const NDArray& array) {
  return reinterpret_cast<Bits*>(static_cast<char*>(array.storage_handle().dptr) + array.byte_offset());
}

// Whether (N, C, H, W) lies the same by position as it does plainly.
inline bool is_flat(const mxnet::TShape& shape) { return shape.ndim() != 4 || shape[1] == 1 || area(shape) == 1; }

inline bool lies_by_position(const NDArray& array) {
  if (is_flat(array.shape())) return !array.IsMKLDNNData();
  return array.IsMKLDNNData() && array.GetMKLDNNData(by_position(array.shape())) != nullptr;
}

// The numbers by position, from the array itself or from `copy`.
inline const Bits* read(const NDArray& array, Buffer* copy) {
  if (lies_by_position(array)) return bits(array);
  const NDArray plain = array.IsMKLDNNData() ? array.Reorder2Default() : array;
  const mxnet::TShape& shape = array.shape();
  *copy = room<Bits>(shape.Size());
  Bits* to = copy->get();
  const Bits* from = bits(plain);
  if (is_flat(shape)) {
    std::memcpy(to, from, shape.Size() * sizeof(Bits));
    return to;
  }
  const int64_t positions = area(shape), channels = shape[1], step = 64;
#pragma omp parallel for num_threads(threads()) collapse(2)
  for (int64_t n = 0; n < shape[0]; ++n) {
    for (int64_t first = 0; first < positions; first += step) {
      const int64_t last = std::min(positions, first + step);
      for (int64_t c = 0; c < channels; ++c) {
        const Bits* row = from + (n * channels + c) * positions;
        for (int64_t p = first; p < last; ++p) to[(n * positions + p) * channels + c] = row[p];
      }
    }
  }
  return to;
}

// Whether an output may be written by position: as `takes` in layout.h.
inline bool takes(const NDArray& array) {
  if (is_flat(array.shape())) return true;
  const bool inside = array.reuse_ || array.ptr_->shandle.dptr == nullptr;
  return !array.IsView() && (inside || lies_by_position(array));
}

inline Bits* write(const NDArray& array) {
  NDArray target = array;
  if (is_flat(array.shape())) {
    target.InvalidateMKLDNNData();
  } else {
    CHECK(target.CreateMKLDNNData(by_position(target.shape())) != nullptr);
  }
  return bits(target);
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_H_
