// Modify MXNet's table of operators from outside: other kernels for existing operators, and new operators.
//
// MXNet has no interface for this: operators loaded by `mx.library.load` only receive plain arrays, so every feature map
// would be copied out of oneDNN's layout and back. But MXNet ships its headers, and its symbols are visible, so the table
// itself can be changed, and operators added. Three properties of its binary need care:
//
// - It uses the std::string from before C++11 (_GLIBCXX_USE_CXX11_ABI=0 makes ours the same).
// - A std::function of its compiler passes non-reference arguments by value, today's by reference. Functions whose
//   arguments are all references are the same in both; `Legacy` wraps the others to be called as MXNet does.
// - Its std::unordered_map is a word shorter, so members behind one in a struct are not where the headers say. This
//   concerns the nodes of graphs: `NodeFields` gives the positions of their members.
#ifndef KERNELS_MXNET_REGISTRY_H_
#define KERNELS_MXNET_REGISTRY_H_

#include <dmlc/logging.h>  // first: mshadow has its own, with which a failed check ends the process

#include <mxnet/c_api.h>
#include <mxnet/op_attr_types.h>
#include <nnvm/c_api.h>
#include <nnvm/op.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "sharing.h"

namespace kernels {

using mxnet::DispatchMode;
using mxnet::OpContext;
using mxnet::OpReqType;
using nnvm::NodeAttrs;
using nnvm::Op;

typedef std::vector<OpReqType> Requests;

// A kernel that takes a call, or leaves it untouched to the operator's own by returning false. An output may be one of the
// inputs as a whole.
typedef bool (*Kernel)(const NodeAttrs&, const OpContext&, const Arrays&, const Requests&, const Arrays&);

// The first of two kernels that takes a call.
template <Kernel one, Kernel other>
bool either(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs, const Requests& requests,
            const Arrays& outputs) {
  return one(attrs, context, inputs, requests, outputs) || other(attrs, context, inputs, requests, outputs);
}

// How many calls our kernels handled, to distinguish them from MXNet's.
inline std::atomic<int64_t>& calls() {
  static std::atomic<int64_t> count(0);
  return count;
}

template <class Attribute>
Attribute& attribute(const char* name, const Op* op) {
  auto& map = const_cast<nnvm::OpMap<Attribute>&>(Op::GetAttr<Attribute>(name));
  if (map.data_.size() <= op->index_) map.data_.resize(op->index_ + 1, std::make_pair(Attribute(), 0));
  map.data_[op->index_].second = 11;  // above the 10 of what is registered with the operators
  return map.data_[op->index_].first;
}

constexpr int kUndefined = mxnet::kUndefinedStorage, kDefault = mxnet::kDefaultStorage;

inline bool all_dense(const std::vector<int>& storage_types) {
  return std::all_of(storage_types.begin(), storage_types.end(), [](int type) { return type == kDefault; });
}

// Functions with pointers and numbers among their arguments, from and to MXNet.
template <class Signature>
struct Legacy;

template <class Result, class... Arguments>
struct Legacy<Result(Arguments...)> {
  typedef std::function<Result(Arguments...)> Function;
  typedef Result (*Invoker)(const std::_Any_data&, Arguments...);

  template <Result (*function)(Arguments...)>
  static Result invoke(const std::_Any_data&, Arguments... arguments) {
    return function(arguments...);
  }

  template <Result (*function)(Arguments...)>
  static Function make() {
    Function made = function;
    made._M_invoker = reinterpret_cast<decltype(made._M_invoker)>(static_cast<Invoker>(invoke<function>));
    return made;
  }

  static Result call(const Function& theirs, Arguments... arguments) {
    return reinterpret_cast<Invoker>(theirs._M_invoker)(theirs._M_functor, arguments...);
  }
};

typedef Legacy<bool(const NodeAttrs&, int, DispatchMode*, std::vector<int>*, std::vector<int>*)> InferStorage;

// To kernels for oneDNN's layout where all arrays are dense.
inline bool infer_storage(const NodeAttrs&, int, DispatchMode* mode, std::vector<int>* inputs,
                          std::vector<int>* outputs) {
  for (auto* types : {inputs, outputs}) std::replace(types->begin(), types->end(), kUndefined, kDefault);
  *mode = all_dense(*inputs) && all_dense(*outputs) ? DispatchMode::kFComputeEx : DispatchMode::kFComputeFallback;
  return true;
}

// The same for an operator that has a rule for sparse arrays: its own comes first.
template <int operator_id>
struct DenseStorage {
  static mxnet::FInferStorageType& original() {
    static mxnet::FInferStorageType function;
    return function;
  }

  static bool infer(const NodeAttrs& attrs, int device, DispatchMode* mode, std::vector<int>* inputs,
                    std::vector<int>* outputs) {
    if (!InferStorage::call(original(), attrs, device, mode, inputs, outputs)) return false;
    if (all_dense(*inputs) && all_dense(*outputs) && *mode == DispatchMode::kFCompute) {
      *mode = DispatchMode::kFComputeEx;
    }
    return true;
  }

  static void replace(const Op* op) {
    auto& entry = attribute<mxnet::FInferStorageType>("FInferStorageType", op);
    if (entry) {
      original() = entry;
      entry = InferStorage::make<infer>();
    } else {
      entry = InferStorage::make<infer_storage>();
    }
  }
};

// Whether one of our kernels handled the call.
inline bool took(Kernel kernel, const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs,
                 const Requests& requests, const Arrays& outputs) {
  if (!are_apart(outputs) || !kernel(attrs, context, inputs, requests, outputs)) return false;
  ++calls();
  return true;
}

// Runs an operator's kernel for plain arrays.
inline void run_plain(const mxnet::FCompute& compute, const NodeAttrs& attrs, const OpContext& context,
                      const Arrays& inputs, const Requests& requests, const Arrays& outputs) {
  std::vector<mxnet::TBlob> from, to;
  Arrays plain_outputs;  // keeps copies alive: of what stands in oneDNN's layout and is added to
  for (const NDArray& array : inputs) from.push_back(array.data());
  for (size_t k = 0; k < outputs.size(); ++k) {
    NDArray array = outputs[k];
    if (array.IsMKLDNNData() && requests[k] == mxnet::kAddTo) array = array.Reorder2Default();
    array.InvalidateMKLDNNData();
    plain_outputs.push_back(array);
    to.push_back(array.data());
  }
  compute(attrs, context, from, requests, to);
  for (size_t k = 0; k < outputs.size(); ++k) {
    NDArray array = outputs[k];
    if (!array.IsMKLDNNData()) continue;
    array.InvalidateMKLDNNData();
    std::memcpy(array.data().dptr_, to[k].dptr_, to[k].Size() * mshadow::mshadow_sizeof(to[k].type_flag_));
  }
}

// Adds a kernel for oneDNN's layout to an operator that MXNet only runs on plain arrays.
template <int operator_id>
void replace_plain(const char* name, Kernel kernel) {
  const Op* op = Op::Get(name);
  auto& entry = attribute<mxnet::FComputeEx>("FComputeEx<cpu>", op);
  const mxnet::FComputeEx sparse = entry;
  const mxnet::FCompute plain = attribute<mxnet::FCompute>("FCompute<cpu>", op);
  entry = [=](const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays, const Requests& requests,
              const Arrays& outputs) {
    const Arrays inputs = settled(arrays, outputs);
    if (took(kernel, attrs, context, inputs, requests, outputs)) return;
    Arrays reordered;
    for (const NDArray& array : inputs) {
      reordered.push_back(is_dense(array) && array.IsMKLDNNData() ? array.Reorder2Default() : array);
    }
    if (std::all_of(inputs.begin(), inputs.end(), is_dense) && std::all_of(outputs.begin(), outputs.end(), is_dense)) {
      run_plain(plain, attrs, context, reordered, requests, outputs);
    } else {
      sparse(attrs, context, reordered, requests, outputs);
    }
  };
  attribute<bool>("TIsMKLDNN", op) = true;  // else every input would be reordered before we see it
  DenseStorage<operator_id>::replace(op);
}

// Replaces an operator's oneDNN kernel by a faster one.
inline void replace_onednn(const char* name, Kernel kernel) {
  const Op* op = Op::Get(name);
  auto& entry = attribute<mxnet::FComputeEx>("FComputeEx<cpu>", op);
  const mxnet::FComputeEx original = entry;
  entry = [=](const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays, const Requests& requests,
              const Arrays& outputs) {
    const Arrays inputs = settled(arrays, outputs);
    if (!took(kernel, attrs, context, inputs, requests, outputs)) {
      original(attrs, context, inputs, requests, outputs);
    }
  };
}

// A node of a graph as MXNet's binary has it.
struct NodeFields {
  const Op* op;
  std::string name;
  char dict[48], parsed[sizeof(dmlc::any)], subgraphs[sizeof(std::vector<void*>)];
  std::vector<nnvm::NodeEntry> inputs;
  std::vector<nnvm::ObjectPtr> control_deps;
};

inline NodeFields& fields(const nnvm::ObjectPtr& node) { return *reinterpret_cast<NodeFields*>(node.get()); }

typedef std::vector<std::pair<const char*, std::string>> Keywords;

// A new node of an operator, without inputs.
inline nnvm::ObjectPtr make_node(const char* op, const std::string& name, const Keywords& keywords = {}) {
  std::vector<const char*> keys, values;
  for (const auto& keyword : keywords) {
    keys.push_back(keyword.first);
    values.push_back(keyword.second.c_str());
  }
  SymbolHandle handle = nullptr;
  CHECK_EQ(MXSymbolCreateAtomicSymbol(const_cast<Op*>(Op::Get(op)), keys.size(), keys.data(), values.data(), &handle),
           0) << MXGetLastError();
  const auto* symbol = static_cast<const std::vector<nnvm::NodeEntry>*>(handle);  // its only member
  nnvm::ObjectPtr node = (*symbol)[0].node;
  NNSymbolFree(handle);
  fields(node).name = name;
  return node;
}

inline std::string argument(const NodeAttrs& attrs, const char* key, const char* otherwise) {
  const auto found = attrs.dict.find(key);
  return found == attrs.dict.end() ? otherwise : found->second;
}

}  // namespace kernels

#endif  // KERNELS_MXNET_REGISTRY_H_
