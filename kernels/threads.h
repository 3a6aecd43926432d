// How many threads a kernel computes with.
#ifndef KERNELS_THREADS_H_
#define KERNELS_THREADS_H_

namespace mxnet {
namespace engine {

// As much as is needed of a class whose header does not come with MXNet.
class OpenMP {
 public:
  static OpenMP* Get();
  int GetRecommendedOMPThreadCount(bool exclude_reserved = true) const;
};

}  // namespace engine
}  // namespace mxnet

namespace kernels {

// As MXNet's operators: one in a process that was forked, which has none of its parent's threads to wait for.
inline int threads() { return mxnet::engine::OpenMP::Get()->GetRecommendedOMPThreadCount(); }

}  // namespace kernels

#endif  // KERNELS_THREADS_H_
