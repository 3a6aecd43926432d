// Operators of our own with gradients, which are put into graphs by `kernels.fusing`: how they are registered, and how they
// read and write maps in whatever layout these have.
//
// A unit that pools a map and then multiplies it uses the map twice, so that MXNet adds up two gradients of its size. An
// operator here therefore also passes the map on, and what comes behind takes it from there: both are the same memory,
// and the gradient of the operator adds its own to the one that comes back.
#ifndef KERNELS_FUSED_H_
#define KERNELS_FUSED_H_

#include <dmlc/registry.h>

#include "bfloat16_maps.h"
#include "layout.h"

namespace kernels {

// Maps, which are the first input, the last one if so, and the first outputs, are of one type, and the rest is float32.
template <bool last_is_map, int map_outputs = 1>
bool map_types(const NodeAttrs&, std::vector<int>* inputs, std::vector<int>* outputs) {
  std::vector<int*> maps = {&inputs->front()};
  for (int k = 0; k < map_outputs; ++k) maps.push_back(&(*outputs)[k]);
  if (last_is_map) maps.push_back(&inputs->back());
  int type = mshadow::kFloat32;
  for (const int* map : maps) {
    if (*map != -1) type = *map;
  }
  for (int* map : maps) {
    CHECK(*map == -1 || *map == type) << "the maps of an operator are of one type; cast them";
    *map = type;
  }
  for (auto* types : {inputs, outputs}) std::replace(types->begin(), types->end(), -1, int(mshadow::kFloat32));
  return true;
}

typedef Legacy<bool(const NodeAttrs&, mxnet::ShapeVector*, mxnet::ShapeVector*)> InferShape;
typedef Legacy<bool(const NodeAttrs&, std::vector<int>*, std::vector<int>*)> InferType;

// An operator and its gradient, whose name is "_backward" and the operator's.
struct Fused {
  const char* name;
  std::vector<std::string> inputs;
  std::vector<const char*> arguments;
  uint32_t outputs, visible;  // what is behind the visible ones is for the gradient
  // The gradient reads the gradients of the visible outputs, then these inputs and outputs, then the running ones.
  std::vector<uint32_t> read_inputs, read_outputs;
  std::vector<uint32_t> running;  // inputs without gradient, which the backward pass changes
  bool passes_on;                 // the first output is the first input
  mxnet::FInferShape shapes;
  void (*forward)(const NodeAttrs&, const OpContext&, const Arrays&, const Requests&, const Arrays&);
  void (*backward)(const NodeAttrs&, const OpContext&, const Arrays&, const Requests&, const Arrays&);
  // Which output of the gradient each input has that is not running; by default the next.
  std::vector<uint32_t> gradients = {};
  bool in_place = false;  // the gradient's first output may replace the gradient above, which it may whenever passes_on
  nnvm::FInferType types = InferType::make<map_types<false>>();

  bool is_running(uint32_t input) const { return std::count(running.begin(), running.end(), input) > 0; }
  std::string backward_name() const { return std::string("_backward") + name; }
};

// Sets the shapes of an operator's inputs; what is known already has to agree.
inline void take_shapes(const char* name, const mxnet::ShapeVector& expected, mxnet::ShapeVector* inputs) {
  for (size_t k = 0; k < expected.size(); ++k) {
    CHECK(!mxnet::shape_is_known((*inputs)[k]) || (*inputs)[k] == expected[k])
        << name << ": input " << k << " is " << (*inputs)[k] << ", not " << expected[k];
  }
  *inputs = expected;
}

// Whether what an operator passes on is not used, so that it has no gradient.
inline bool is_alone(const NodeAttrs& attrs) { return argument(attrs, "alone", "0") == "1"; }

inline std::vector<nnvm::NodeEntry> gradient_of(const Fused& op, const nnvm::ObjectPtr& node,
                                                const std::vector<nnvm::NodeEntry>& gradients) {
  const NodeFields& forward = fields(node);
  Keywords keywords;
  for (const char* key : op.arguments) {
    if (node->attrs.dict.count(key)) keywords.emplace_back(key, argument(node->attrs, key, ""));
  }
  const nnvm::ObjectPtr backward = make_node(op.backward_name().c_str(), forward.name + "_backward", keywords);
  fields(backward).control_deps.push_back(node);
  auto& inputs = fields(backward).inputs;
  for (uint32_t k = is_alone(node->attrs); k < op.visible; ++k) inputs.push_back(gradients[k]);
  for (uint32_t k : op.read_inputs) inputs.push_back(forward.inputs[k]);
  for (uint32_t k : op.read_outputs) inputs.emplace_back(node, k, 0);
  for (uint32_t k : op.running) inputs.push_back(forward.inputs[k]);
  const nnvm::ObjectPtr none = make_node("_NoGradient", "NoGradient");
  std::vector<nnvm::NodeEntry> of_inputs;
  uint32_t next = 0;
  for (uint32_t k = 0; k < op.inputs.size(); ++k) {
    if (op.is_running(k)) {
      of_inputs.emplace_back(none);
    } else {
      of_inputs.emplace_back(backward, op.gradients.empty() ? next : op.gradients[next], 0);
      ++next;
    }
  }
  return of_inputs;
}

typedef std::vector<std::pair<int, int>> Pairs;

inline void register_fused(const Fused& op) {
  auto* registry = dmlc::Registry<Op>::Get();
  Op& forward = registry->__REGISTER_OR_GET__(op.name);
  forward.set_num_inputs(op.inputs.size()).set_num_outputs(op.outputs);
  const std::vector<std::string> names = op.inputs;
  const uint32_t visible = op.visible, count = op.running.size();
  attribute<nnvm::FListInputNames>("FListInputNames", &forward) = [=](const NodeAttrs&) { return names; };
  for (const std::string& name : names) forward.add_argument(name, "NDArray-or-Symbol", "");
  for (const char* name : op.arguments) forward.add_argument(name, "float, optional", "");
  attribute<nnvm::FNumVisibleOutputs>("FNumVisibleOutputs", &forward) = [=](const NodeAttrs&) { return visible; };
  attribute<mxnet::FInferShape>("FInferShape", &forward) = op.shapes;
  attribute<nnvm::FInferType>("FInferType", &forward) = op.types;
  attribute<nnvm::FGradient>("FGradient", &forward) =
      [=](const nnvm::ObjectPtr& node, const std::vector<nnvm::NodeEntry>& gradients) {
        return gradient_of(op, node, gradients);
      };
  attribute<mxnet::FComputeEx>("FComputeEx<cpu>", &forward) = op.forward;

  Op& backward = registry->__REGISTER_OR_GET__(op.backward_name());
  const uint32_t inputs = visible + op.read_inputs.size() + op.read_outputs.size() + count;
  if (op.passes_on) {
    backward.set_num_inputs([=](const NodeAttrs& attrs) { return inputs - is_alone(attrs); });
    attribute<nnvm::FInplaceOption>("FInplaceOption", &forward) = [](const NodeAttrs&) { return Pairs{{0, 0}}; };
    attribute<nnvm::FInplaceIdentity>("FInplaceIdentity", &forward) = [](const NodeAttrs&) {
      return std::vector<bool>{true};
    };
  } else {
    backward.set_num_inputs(inputs);
  }
  if (op.passes_on || op.in_place) {
    attribute<nnvm::FInplaceOption>("FInplaceOption", &backward) = [](const NodeAttrs& attrs) {
      return is_alone(attrs) ? Pairs{} : Pairs{{0, 0}};
    };
  }
  const auto most = std::max_element(op.gradients.begin(), op.gradients.end());
  backward.set_num_outputs(op.gradients.empty() ? names.size() - count : *most + 1);
  attribute<bool>("TIsBackward", &backward) = true;
  attribute<mxnet::FComputeEx>("FComputeEx<cpu>", &backward) = op.backward;
  if (count) {
    const std::vector<uint32_t> running = op.running;
    attribute<nnvm::FMutateInputs>("FMutateInputs", &forward) = [=](const NodeAttrs&) { return running; };
    attribute<nnvm::FMutateInputs>("FMutateInputs", &backward) = [=](const NodeAttrs&) {
      std::vector<uint32_t> last;
      for (uint32_t k = inputs - count; k < inputs; ++k) last.push_back(k);
      return last;
    };
  }
  for (Op* one : {&forward, &backward}) {
    attribute<mxnet::FInferStorageType>("FInferStorageType", one) = InferStorage::make<infer_storage>();
    attribute<bool>("TIsMKLDNN", one) = true;
  }
}

inline bool is_narrow_map(const NDArray& array) {
#ifdef __AVX512BF16__
  return array.shape().ndim() == 4 && narrow::is_narrow(array);
#else
  return false;
#endif
}

typedef void (*Computation)(const NodeAttrs&, const OpContext&, const Arrays&, const Requests&, const Arrays&);

// One of two forms of an operator: for float32, and for bfloat16 maps.
template <Computation wide, Computation of_narrow>
void by_type(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs, const Requests& requests,
             const Arrays& outputs) {
  const bool any = std::any_of(inputs.begin(), inputs.end(), is_narrow_map) || is_narrow_map(outputs[0]);
  (any ? of_narrow : wide)(attrs, context, inputs, requests, outputs);
}

// What a call reads: float32 arrays that nothing written lies in, except as a whole.
inline Arrays inputs_of(const char* name, const Arrays& arrays, const Arrays& outputs) {
  for (const NDArray& array : arrays) {
    CHECK(dense_float32({array}) || is_narrow_map(array)) << name << ": computes with dense float32 arrays only";
  }
  ++calls();
  return settled(arrays, outputs);
}

// A map to read, in the layout that it has, or in the one that is wanted.
class MapInput {
 public:
  explicit MapInput(const NDArray& array, int wanted = kUnknown) : block(wanted ? wanted : own(array)) {
#ifdef __AVX512BF16__
    if (is_narrow_map(array)) {
      wide_ = narrow::widened(array, block);
      data = wide_.get();
      return;
    }
#endif
    data = in_layout(array, block, &copy_);
  }
  static int own(const NDArray& array) {
    const int usual = block_of(array.shape()[1]), found = is_narrow_map(array) ? kUnknown : layout(array);
    return found != kUnknown ? found : usual != 0 ? usual : kPlain;
  }

  const int block;
  const float* data;

 private:
  std::vector<float> copy_;
  std::unique_ptr<float[]> wide_;
};

// Numbers to read that are not a map.
class RowInput {
 public:
  explicit RowInput(const NDArray& array) : plain_(array.IsMKLDNNData() ? array.Reorder2Default() : array) {
    CHECK_EQ(array.dtype(), mshadow::kFloat32) << "numbers that are no map are float32";
    data = pointer(plain_);
  }

  const float* data;

 private:
  NDArray plain_;
};

// Where to compute a map in blocks; `deliver` then moves it to its destination.
class MapResult {
 public:
  MapResult(const NDArray& array, OpReqType request, int block) : array_(array), request_(request), block_(block) {
#ifdef __AVX512BF16__
    if (is_narrow_map(array)) {
      wide_.reset(new float[array.shape().Size()]);
      data_ = wide_.get();
      return;
    }
#endif
    const bool overwrite = request == mxnet::kWriteTo || request == mxnet::kWriteInplace;
    data_ = overwrite && takes(array, block) ? output(array, block) : nullptr;
    if (data_ == nullptr) copy_.resize(array.shape().Size()), data_ = copy_.data();
  }

  float* data() { return data_; }

  void deliver() {
#ifdef __AVX512BF16__
    if (wide_ != nullptr && request_ != mxnet::kNullOp) {
      narrow::Result rounded(array_, request_);
      narrow::round_into(data_, array_.shape(), block_, rounded.data());
      rounded.deliver();
    }
#endif
    if (copy_.empty() || request_ == mxnet::kNullOp) return;
    const bool add = request_ == mxnet::kAddTo;
    NDArray plain = add && array_.IsMKLDNNData() ? array_.Reorder2Default() : array_;
    const mxnet::TShape& shape = array_.shape();
    const int64_t positions = shape[2] * shape[3], groups = shape[0] * shape[1] / block_;
    array_.InvalidateMKLDNNData();
    const float* before = pointer(plain);
    float* to = pointer(array_);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t at = group * positions * block_;
      for (int lane = 0; lane < block_; ++lane) {
        for (int64_t p = 0; p < positions; ++p) {
          const float value = copy_[at + p * block_ + lane];
          to[at + lane * positions + p] = add ? before[at + lane * positions + p] + value : value;
        }
      }
    }
  }

 private:
  NDArray array_;
  OpReqType request_;
  int block_;
  std::vector<float> copy_;
  std::unique_ptr<float[]> wide_;  // of a bfloat16 map
  float* data_;
};

// How an operator for maps of either number reads and writes them: float32 in blocks, bfloat16 by position.
template <class Number>
struct Maps {
  typedef MapInput Input;
  typedef MapResult Result;
};

#ifdef __AVX512BF16__
template <>
struct Maps<narrow::Bits> {
  struct Input {
    Input(const NDArray& array, int) : data(narrow::read(array, &copy)) {}
    narrow::Buffer copy;
    const narrow::Bits* data;
  };
  struct Result : narrow::Result {
    Result(const NDArray& array, OpReqType request, int) : narrow::Result(array, request) {}
  };
};
#endif

inline void deliver(const std::vector<float>& values, const NDArray& array, OpReqType request) {
  if (request == mxnet::kNullOp) return;
  if (request == mxnet::kAddTo) array.ptr_->Reorder2Default();
  float* to = output(array, kPlain);
  for (size_t k = 0; k < values.size(); ++k) to[k] = request == mxnet::kAddTo ? to[k] + values[k] : values[k];
}

// The map as an output: nothing if both are the same memory.
inline void pass_on(const NDArray& array, const MapInput& x, const NDArray& target, OpReqType request) {
  if (request == mxnet::kNullOp || (range(array) == range(target) && range(array).first != 0)) return;
  MapResult result(target, request, x.block);
  const int64_t size = array.shape().Size();
  float* to = result.data();
#pragma omp parallel for num_threads(threads()) if (size > kSmall)
  for (int64_t first = 0; first < size; first += kSmall) {
    std::copy(x.data + first, x.data + std::min(first + kSmall, size), to + first);
  }
  result.deliver();
}

}  // namespace kernels

#endif  // KERNELS_FUSED_H_
