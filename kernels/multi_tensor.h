// Operations on all parameters in a training step, as one operator each: copying them, also to and from float16; Nesterov's step with the norm of
// the gradient.
//
// MXNet has an operator for every array. The overhead of each call, above all in Python, takes many times as long as the
// arithmetic for a small network's parameters, and keeps a core from working on the network.
#ifndef KERNELS_MULTI_TENSOR_H_
#define KERNELS_MULTI_TENSOR_H_

#include <immintrin.h>

#include <cstdlib>

#include "layout.h"

// Products are not fused with sums, so that the bits are the same as MXNet's, which is compiled for processors without
// that instruction. Ranks with and without the kernels can then train together.
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")

namespace kernels {

typedef std::vector<mxnet::TBlob> Blobs;

// Calls loop(array, begin, end) for ranges of numbers that together cover `count` arrays, on all threads. Returns the sum
// of its results, with the same bits for any number of threads.
template <class Loop>
double over_ranges(const Blobs& arrays, size_t count, Loop loop) {
  struct Range {
    size_t array;
    int64_t begin, end;
    float result;
  };
  constexpr int64_t length = 4096;
  std::vector<Range> ranges;
  int64_t total = 0;
  for (size_t k = 0; k < count; ++k) {
    const int64_t size = arrays[k].Size();
    total += size;
    for (int64_t from = 0; from < size; from += length) ranges.push_back({k, from, std::min(from + length, size), 0});
  }
  const int64_t last = ranges.size();
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 4) if (total > kSmall)
  for (int64_t k = 0; k < last; ++k) ranges[k].result = loop(ranges[k].array, ranges[k].begin, ranges[k].end);
  double sum = 0;
  for (const Range& range : ranges) sum += range.result;
  return sum;
}

inline void check_overwrites(const char* name, const Requests& requests) {
  CHECK(overwrites(requests)) << name << " overwrites its outputs";
}

inline void to_half(const float* from, uint16_t* to, int64_t count, float factor) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 values = _mm256_mul_ps(_mm256_loadu_ps(from + i), _mm256_set1_ps(factor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < count; ++i) to[i] = _cvtss_sh(from[i] * factor, _MM_FROUND_TO_NEAREST_INT);
}

inline void from_half(const uint16_t* from, float* to, int64_t count, float factor) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 values = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    _mm256_storeu_ps(to + i, _mm256_mul_ps(values, _mm256_set1_ps(factor)));
  }
  for (; i < count; ++i) to[i] = _cvtsh_ss(from[i]) * factor;
}

// Arrays -> as many of the same shapes, of the same types or in float16 for float32 and the reverse. Those of which one
// is float32 are multiplied by `factor`.
inline void multi_copy(const NodeAttrs& attrs, const OpContext&, const Blobs& inputs, const Requests& requests,
                       const Blobs& outputs) {
  check_overwrites("_multi_copy", requests);
  ++calls();
  const float factor = std::atof(argument(attrs, "factor", "1").c_str());
  over_ranges(inputs, inputs.size(), [&](size_t k, int64_t begin, int64_t end) {
    const int from = inputs[k].type_flag_, to = outputs[k].type_flag_;
    if (from == mshadow::kFloat32 && to == mshadow::kFloat16) {
      to_half(static_cast<float*>(inputs[k].dptr_) + begin, static_cast<uint16_t*>(outputs[k].dptr_) + begin,
              end - begin, factor);
    } else if (from == mshadow::kFloat16 && to == mshadow::kFloat32) {
      from_half(static_cast<uint16_t*>(inputs[k].dptr_) + begin, static_cast<float*>(outputs[k].dptr_) + begin,
                end - begin, factor);
    } else if (from == mshadow::kFloat32 && factor != 1) {
      const float* source = static_cast<float*>(inputs[k].dptr_);
      float* target = static_cast<float*>(outputs[k].dptr_);
      for (int64_t i = begin; i < end; ++i) target[i] = source[i] * factor;
    } else {
      const size_t bytes = mshadow::mshadow_sizeof(from);
      std::memcpy(static_cast<char*>(outputs[k].dptr_) + begin * bytes,
                  static_cast<const char*>(inputs[k].dptr_) + begin * bytes, (end - begin) * bytes);
    }
    return 0.0f;
  });
}

// Nesterov's step for numbers of one weight; returns the sum of squares of their gradients.
inline float nag_range(const Blobs& inputs, const Blobs& outputs, size_t count, size_t k, int64_t begin, int64_t end,
                       float momentum, float rescale) {
  const float *learning_rates = inputs[3 * count].dptr<float>(), *decays = learning_rates + count;
  const float rate = learning_rates[k], decay = decays[k];
  const float *weight = inputs[k].dptr<float>(), *gradient = inputs[count + k].dptr<float>();
  float *velocity = inputs[2 * count + k].dptr<float>(), *updated = outputs[k].dptr<float>();
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = begin; i < end; ++i) {
    const float before = momentum * velocity[i], w = weight[i], g = rescale * gradient[i];
    const float next = w - before + (momentum + 1) * (before - rate * (g + decay * w));
    updated[i] = next;
    velocity[i] = before - rate * (g + decay * next);
    squares += gradient[i] * gradient[i];
  }
  return squares;
}

// (n weights, n gradients, n momenta, rates (2 n + 2): learning rates, weight decays, momentum, factor of the gradients)
// -> n weights, and the squared norm (1,) of the gradients; the momenta change. As MXNet's nag_mom_update, which takes the
// momentum's weight decay from the weight that it has just updated.
inline void multi_nag_update(const NodeAttrs&, const OpContext&, const Blobs& inputs, const Requests& requests,
                             const Blobs& outputs) {
  check_overwrites("_multi_nag_update", requests);
  ++calls();
  const size_t count = outputs.size() - 1;
  const float* rates = inputs[3 * count].dptr<float>();
  const float momentum = rates[2 * count], rescale = rates[2 * count + 1];
  const double squared_norm = over_ranges(inputs, count, [&](size_t k, int64_t begin, int64_t end) {
    return nag_range(inputs, outputs, count, k, begin, end, momentum, rescale);
  });
  *outputs[count].dptr<float>() = static_cast<float>(squared_norm);
}

inline uint32_t count_of(const NodeAttrs& attrs) {
  return static_cast<uint32_t>(std::atoi(argument(attrs, "count", "0").c_str()));
}

inline bool copy_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  *outputs = *inputs;
  return true;
}

inline bool copy_types(const NodeAttrs&, std::vector<int>* inputs, std::vector<int>* outputs) {
  const auto converts = [](int type) { return type == mshadow::kFloat32 || type == mshadow::kFloat16; };
  for (size_t k = 0; k < inputs->size(); ++k) {
    const int from = (*inputs)[k], to = (*outputs)[k];
    CHECK(from == to || (converts(from) && converts(to))) << "_multi_copy: of types, it converts float32 and float16";
  }
  return true;
}

// `rates` for each weight, and as many for all.
template <int rates>
bool update_shapes(const NodeAttrs& attrs, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const int count = count_of(attrs);
  for (int k = 0; k < 3 * count; ++k) {
    CHECK_EQ((*inputs)[k], (*inputs)[k % count]) << "a weight's gradient or momentum has its shape";
  }
  CHECK_EQ((*inputs)[3 * count], mxnet::TShape({rates * count + rates})) << "the shape of the rates";
  outputs->assign(inputs->begin(), inputs->begin() + count);
  outputs->push_back(mxnet::TShape({1}));
  return true;
}

inline bool nag_types(const NodeAttrs&, std::vector<int>* inputs, std::vector<int>* outputs) {
  for (int type : *inputs) CHECK_EQ(type, mshadow::kFloat32) << "updates take float32";
  std::fill(outputs->begin(), outputs->end(), static_cast<int>(mshadow::kFloat32));
  return true;
}

template <bool (*shapes)(const NodeAttrs&, mxnet::ShapeVector*, mxnet::ShapeVector*),
          bool (*types)(const NodeAttrs&, std::vector<int>*, std::vector<int>*)>
Op* register_multi_tensor(const char* name, mxnet::FCompute compute) {
  Op& op = dmlc::Registry<Op>::Get()->__REGISTER_OR_GET__(name);
  op.add_argument("data", "NDArray-or-Symbol[]", "");
  op.add_argument("count", "int", "");
  op.add_argument("factor", "float", "");
  attribute<mxnet::FInferShape>("FInferShape", &op) =
      Legacy<bool(const NodeAttrs&, mxnet::ShapeVector*, mxnet::ShapeVector*)>::make<shapes>();
  attribute<nnvm::FInferType>("FInferType", &op) =
      Legacy<bool(const NodeAttrs&, std::vector<int>*, std::vector<int>*)>::make<types>();
  attribute<mxnet::FCompute>("FCompute<cpu>", &op) = compute;
  return &op;
}

inline void register_multi_copy() {
  Op* op = register_multi_tensor<copy_shapes, copy_types>("_multi_copy", multi_copy);
  op->set_num_inputs(count_of).set_num_outputs(count_of);
}

inline void register_update(Op* op) {
  op->set_num_inputs([](const NodeAttrs& attrs) { return 3 * count_of(attrs) + 1; });
  op->set_num_outputs([](const NodeAttrs& attrs) { return count_of(attrs) + 1; });
  attribute<nnvm::FMutateInputs>("FMutateInputs", op) = [](const NodeAttrs& attrs) {
    std::vector<uint32_t> momenta(count_of(attrs));
    for (uint32_t k = 0; k < momenta.size(); ++k) momenta[k] = 2 * momenta.size() + k;
    return momenta;
  };
}

inline void register_multi_nag_update() {
  register_update(register_multi_tensor<update_shapes<2>, nag_types>("_multi_nag_update", multi_nag_update));
}

// Whether all arrays have gradients that have not been used yet; if so, they are marked as used.
inline bool take_gradients(NDArray* const* arrays, int count) {
  const bool fresh = std::all_of(arrays, arrays + count, [](NDArray* array) { return array->fresh_out_grad(); });
  for (int k = 0; fresh && k < count; ++k) arrays[k]->set_fresh_out_grad(false);
  return fresh;
}

}  // namespace kernels

#pragma GCC pop_options

#endif  // KERNELS_MULTI_TENSOR_H_
