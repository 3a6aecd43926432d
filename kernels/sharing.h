// Arrays that share memory: views of one another, and outputs that are inputs too.
//
// One of oneDNN's layouts applies to the whole memory of an array, in which no contiguous part is a part of the map. When
// MXNet meets a view, it converts the memory to the plain layout in some places; in others it fails, or relabels the
// layout without moving the numbers, so that the neighbours of what is written come out shuffled. Our kernels leave far
// more maps in such a layout than MXNet does. Hence three rules:
//
// - An array is converted to the plain layout when a view of it is made (views.py).
// - An array that existed before the kernel was called keeps the plain layout (`takes` in layout.h): it may have views.
// - Neither our kernels, nor MXNet's for the calls that ours decline, see a view in a layout (`settled`).
#ifndef KERNELS_SHARING_H_
#define KERNELS_SHARING_H_

#include <mxnet/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace kernels {

using mxnet::NDArray;

typedef std::vector<NDArray> Arrays;

inline bool is_dense(const NDArray& array) { return array.storage_type() == mxnet::kDefaultStorage; }

inline bool is_view_of_layout(const NDArray& array) {
  return is_dense(array) && array.IsMKLDNNData() && array.IsView();
}

typedef std::pair<uintptr_t, uintptr_t> Range;

// Where a dense array lies; nowhere before its memory is allocated.
inline Range range(const NDArray& array) {
  if (!is_dense(array) || array.ptr_->shandle.dptr == nullptr) return Range(0, 0);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(array.ptr_->shandle.dptr) + array.byte_offset();
  return Range(begin, begin + array.shape().Size() * mshadow::mshadow_sizeof(array.dtype()));
}

inline bool overlap(const NDArray& one, const NDArray& other) {
  const Range a = range(one), b = range(other);
  return a.first < b.second && b.first < a.second;
}

inline NDArray copied(const NDArray& array) {
  if (array.IsMKLDNNData()) return array.Reorder2Default();
  const mxnet::TBlob from = array.data();
  const NDArray copy(array.shape(), array.ctx(), false, array.dtype());
  std::memcpy(copy.data().dptr_, from.dptr_, from.Size() * mshadow::mshadow_sizeof(array.dtype()));
  return copy;
}

// The inputs of a call so that the order in which they are read and the outputs written does not matter, as long as what
// goes into a number is read before it: none is a view of memory in a layout of oneDNN's, nor are the outputs afterwards,
// and what lies in an output lies there as a whole.
inline Arrays settled(const Arrays& inputs, const Arrays& outputs) {
  for (const NDArray& array : outputs) {
    if (is_view_of_layout(array)) array.ptr_->Reorder2Default();  // first: an input may be of the same memory
  }
  Arrays apart;
  for (const NDArray& array : inputs) {
    const bool in_part = std::any_of(outputs.begin(), outputs.end(), [&](const NDArray& output) {
      return overlap(array, output) && range(array) != range(output);
    });
    apart.push_back(in_part ? copied(array) : is_view_of_layout(array) ? array.Reorder2Default() : array);
  }
  return apart;
}

inline bool are_apart(const Arrays& arrays) {
  for (size_t k = 1; k < arrays.size(); ++k) {
    const auto meets = [&](const NDArray& other) { return overlap(arrays[k], other); };
    if (std::any_of(arrays.begin(), arrays.begin() + k, meets)) return false;
  }
  return true;
}

// Makes an array plain before the next operation on it runs. A view of it is plain already.
inline void make_plain(const NDArray& array) {
  if (array.is_none() || !is_dense(array) || array.IsView() || array.ctx().dev_mask() != mshadow::cpu::kDevMask) return;
  const int type = array.dtype();
  if (type == mshadow::kFloat64 || type == mshadow::kFloat16 || type == mshadow::kInt64) return;  // oneDNN has none
  array.Reorder2DefaultAsync();
}

}  // namespace kernels

#endif  // KERNELS_SHARING_H_
