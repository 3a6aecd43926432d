// The operators of atac.h, norm.h and pools.h, each with its forms.
#ifndef KERNELS_FUSED_OPERATORS_H_
#define KERNELS_FUSED_OPERATORS_H_

#include "atac.h"
#include "bfloat16_fused.h"
#include "norm.h"
#include "pools.h"

namespace kernels {

#ifdef __AVX512BF16__
#define FORMS(...) by_type<__VA_ARGS__, narrow::__VA_ARGS__>
#else
#define FORMS(...) __VA_ARGS__
#endif

inline void register_atac() {
  const std::vector<std::string> names = {"x",       "weight1", "gamma1", "beta1", "mean1",    "variance1",
                                          "weight2", "gamma2",  "beta2",  "mean2", "variance2"};
  Fused op = {"_atac", names, {"width", "relu", "epsilon", "momentum"}, 3, 1, {0, 1, 2, 3, 6, 7, 8}, {1, 2},
              {4, 5, 9, 10}, false, InferShape::make<atac_shapes>()};
  op.forward = atac_forward<float>;
  op.backward = atac_backward<float>;
#ifdef KERNELS_HAVE_TILES
  if (narrow::has_tiles()) {
    op.forward = by_type<atac_forward<float>, atac_forward<narrow::Bits>>;
    op.backward = by_type<atac_backward<float>, atac_backward<narrow::Bits>>;
  }
#endif
  op.types = InferType::make<atac_types>();
  register_fused(op);
}

template <bool gated, bool summed, bool six = false>
void register_norm_leave(const char* name) {
  Fused op = {name, {"x", "statistics"}, {}, 1, 1, {0, 1}, {}, {}, false,
              InferShape::make<norm_leave_shapes<gated, summed>>(), FORMS(norm_leave<gated, summed, six>),
              FORMS(norm_leave_backward<gated, summed, six>)};
  op.gradients = {0, 1};
  if (gated) op.inputs.push_back("gate"), op.read_inputs.push_back(2), op.gradients.push_back(2);
  if (summed) op.inputs.push_back("shortcut"), op.read_outputs.push_back(0), op.gradients.push_back(0);
  op.in_place = true;
  op.types = InferType::make<map_types<summed>>();
  register_fused(op);
}

inline void register_norms() {
  register_fused({"_norm_enter", {"x", "gamma", "beta", "mean", "variance"}, {"eps", "momentum"}, 4, 3, {0}, {2, 3},
                  {3, 4}, true, InferShape::make<norm_enter_shapes>(), FORMS(norm_enter), FORMS(norm_enter_backward)});
  Fused sum = {"_sum_relu", {"a", "b"}, {}, 1, 1, {}, {0}, {}, false, InferShape::make<sum_relu_shapes>(), FORMS(sum_relu),
               FORMS(sum_relu_backward)};
  sum.gradients = {0, 0};
  sum.in_place = true;
  sum.types = InferType::make<map_types<true>>();
  register_fused(sum);
  register_norm_leave<false, false>("_norm_leave");
  register_norm_leave<false, true>("_norm_leave_sum");
  register_norm_leave<true, false>("_norm_leave_gate");
  register_norm_leave<true, true>("_norm_leave_gate_sum");
  register_norm_leave<false, false, true>("_norm_leave_six");
  register_norm_leave<true, false, true>("_norm_leave_gate_six");
}

inline void register_pools() {
  register_fused({"_pool_space", {"x"}, {"alone"}, 2, 2, {}, {}, {}, true,
                  InferShape::make<pool_space_shapes<false>>(), FORMS(pool_space<false>), FORMS(pool_space_backward<false>)});
  register_fused({"_pool_space_max", {"x"}, {"alone"}, 4, 3, {}, {3}, {}, true,
                  InferShape::make<pool_space_shapes<true>>(), FORMS(pool_space<true>), FORMS(pool_space_backward<true>)});
  register_fused({"_pool_channels", {"x"}, {"alone"}, 3, 2, {}, {2}, {}, true,
                  InferShape::make<pool_channels_shapes>(), FORMS(pool_channels), FORMS(pool_channels_backward)});
}

}  // namespace kernels

#endif  // KERNELS_FUSED_OPERATORS_H_
