// How many threads a kernel computes with.
#ifndef KERNELS_THREADS_H_
#define KERNELS_THREADS_H_

namespace mxnet {
namespace engine {

// The required part of a class whose header MXNet does not ship.
class OpenMP {
 public:
  static OpenMP* Get();
  int GetRecommendedOMPThreadCount(bool exclude_reserved = true) const;
};

}  // namespace engine
}  // namespace mxnet

namespace kernels {

// As in MXNet's operators: one in a forked process, which has none of its parent's threads to wait for.
inline int threads() { return mxnet::engine::OpenMP::Get()->GetRecommendedOMPThreadCount(); }

}  // namespace kernels

#endif  // KERNELS_THREADS_H_
