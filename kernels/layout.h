// oneDNN's blocked memory layout of feature maps: (N, C, H, W) lies as (N, C / block, H, W, block).
#ifndef KERNELS_LAYOUT_H_
#define KERNELS_LAYOUT_H_

#include <mkldnn.hpp>

#include "mxnet_registry.h"
#include "threads.h"

namespace kernels {

constexpr int kPlain = 1;    // the block of (N, C, H, W) as it is, of other shapes too
constexpr int kUnknown = 0;  // any other layout

constexpr int64_t kSmall = 16384;  // numbers, up to which one thread is done before others have begun

// A map's description without strides and blocks. MXNet does not export oneDNN's functions that make one.
inline mkldnn_memory_desc_t described(const mxnet::TShape& shape, mkldnn_data_type_t type) {
  mkldnn_memory_desc_t description;
  std::memset(&description, 0, sizeof(description));
  description.ndims = 4;
  for (int k = 0; k < 4; ++k) description.dims[k] = description.padded_dims[k] = shape[k];
  description.data_type = type;
  description.format_kind = mkldnn_blocked;
  return description;
}

inline mkldnn::memory::desc blocked(const mxnet::TShape& shape, int block) {
  mkldnn_memory_desc_t description = described(shape, mkldnn_f32);
  auto& blocking = description.format_desc.blocking;
  blocking.strides[3] = block;
  blocking.strides[2] = shape[3] * block;
  blocking.strides[1] = shape[2] * shape[3] * block;
  blocking.strides[0] = shape[1] * shape[2] * shape[3];
  blocking.inner_nblks = 1;
  blocking.inner_blks[0] = block;
  blocking.inner_idxs[0] = 1;
  return mkldnn::memory::desc(description);
}

// The block size that oneDNN uses for this many channels; 0 if its layout has padding.
inline int block_of(int64_t channels) {
#ifdef __AVX512F__
  if (channels % 16 == 0) return 16;
#endif
  return channels % 8 == 0 ? 8 : 0;
}

inline int layout(const NDArray& array) {
  if (!array.IsMKLDNNData()) return kPlain;
  const mxnet::TShape& shape = array.shape();
  if (shape.ndim() != 4) return kUnknown;
  for (int block : {16, 8}) {
    if (shape[1] % block == 0 && array.GetMKLDNNData(blocked(shape, block)) != nullptr) return block;
  }
  return kUnknown;
}

inline float* pointer(const NDArray& array) {
  return reinterpret_cast<float*>(static_cast<char*>(array.storage_handle().dptr) + array.byte_offset());
}

// A float32 map (N, C, H, W) in a layout, from the array itself or from `copy`.
inline const float* in_layout(const NDArray& array, int block, std::vector<float>* copy) {
  const int found = layout(array);
  if (found == block) return pointer(array);
  const NDArray plain = found == kPlain ? array : array.Reorder2Default();
  const mxnet::TShape& shape = array.shape();
  const int64_t positions = shape[2] * shape[3], groups = shape[0] * shape[1] / block;
  copy->resize(shape.Size());
  const float* from = pointer(plain);
  float* to = copy->data();
#pragma omp parallel for num_threads(threads())
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t at = group * positions * block;
    for (int64_t p = 0; p < positions; ++p) {
      for (int lane = 0; lane < block; ++lane) to[at + p * block + lane] = from[at + lane * positions + p];
    }
  }
  return to;
}

// Whether an output may be written in a layout: the plain one, the one that it shares with an input, or any layout if its
// memory is new, or belongs to the internal maps of a graph, of which there are no views.
inline bool takes(const NDArray& array, int block) {
  if (block == kPlain) return true;
  const bool inside = array.reuse_ || array.ptr_->shandle.dptr == nullptr;
  return !array.IsView() && (inside || layout(array) == block);
}

inline bool take(const Arrays& arrays, int block) {
  return std::all_of(arrays.begin(), arrays.end(), [=](const NDArray& array) { return takes(array, block); });
}

// Where to write an array in a layout that it accepts, which becomes its own.
inline float* output(const NDArray& array, int block) {
  NDArray target = array;
  if (block == kPlain) {
    target.InvalidateMKLDNNData();
  } else {
    CHECK(target.CreateMKLDNNData(blocked(target.shape(), block)) != nullptr);
  }
  return pointer(target);
}

inline bool dense_float32(const Arrays& arrays) {
  return std::all_of(arrays.begin(), arrays.end(), [](const NDArray& array) {
    return array.storage_type() == mxnet::kDefaultStorage && array.dtype() == mshadow::kFloat32;
  });
}

// Whether all outputs are requested, and to be overwritten.
inline bool overwrites(const Requests& requests) {
  return std::all_of(requests.begin(), requests.end(), [](OpReqType request) {
    return request == mxnet::kWriteTo || request == mxnet::kWriteInplace;
  });
}

}  // namespace kernels

#endif  // KERNELS_LAYOUT_H_
