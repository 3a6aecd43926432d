// The forms of norm.h and pools.h for bfloat16 maps: the same passes, over maps that lie by position.
#ifndef KERNELS_BFLOAT16_FUSED_H_
#define KERNELS_BFLOAT16_FUSED_H_

#include "bfloat16_elementwise.h"
#include "bfloat16_maps.h"
#include "bfloat16_pooled.h"
#include "norm.h"
#include "pools.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

// The map as an output: nothing if both are the same memory.
inline void pass_on(const NDArray& array, const Bits* x, const NDArray& target, OpReqType request) {
  if (request == mxnet::kNullOp || (range(array) == range(target) && range(array).first != 0)) return;
  Result result(target, request);
  std::memcpy(result.data(), x, array.shape().Size() * sizeof(Bits));
  result.deliver();
}

inline void norm_enter(const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays,
                       const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_enter", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const NormCall call(attrs, shape);
  Buffer copy;
  const Bits* x = read(inputs[0], &copy);
  std::vector<float> means(call.samples * call.channels), squares(means.size());
  // From the numbers at the sample's first position, so that a large mean costs no digits of the variance.
  for_runs(shape, true, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const __m512 pivot = L::load(x + run.base, run.mask), count = _mm512_set1_ps(call.positions);
    add_up(run, means.data(), squares.data(), [&](int64_t p, __m512* sum, __m512* square) {
      const __m512 apart = L::load(x + run.at(p), run.mask) - pivot;
      *sum += apart;
      *square = _mm512_fmadd_ps(apart, apart, *square);
    });
    if (run.last < call.positions) return;
    const __m512 sum = row(&means[run.row], run.mask), mean = sum / count;
    const __m512 square = row(&squares[run.row], run.mask) - sum * mean;
    set_row(&means[run.row], pivot + mean, run.mask);
    set_row(&squares[run.row], _mm512_max_ps(_mm512_setzero_ps(), square), run.mask);
  });
  deliver_norm(call, context, inputs, means, squares, requests, outputs);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

inline void norm_enter_backward(const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays,
                                const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_enter", arrays, outputs);
  const mxnet::TShape& shape = inputs[3].shape();
  const NormCall call(attrs, shape);
  Buffer copies[2];
  const Bits *x = read(inputs[3], &copies[0]), *d = read(inputs[0], &copies[1]);
  const RowInput of_means(inputs[1]), sums(inputs[2]), statistics(inputs[4]), means(inputs[5]);
  const NormRows rows(statistics.data, call.channels);
  const NormGradient gradient(call, context.is_train, rows, NormSums(sums.data, call.samples * call.channels),
                              of_means.data, means.data);
  if (requests[0] != mxnet::kNullOp) {
    Result of_x(outputs[0], requests[0]);
    Bits* to = of_x.data();
    for_runs(shape, false, [&](auto lanes_of, const Run& run) {
      typedef decltype(lanes_of) L;
      const int64_t c = run.row % call.channels;
      const __m512 by_d = row(&gradient.of_d[run.row], run.mask), by_x = row(&gradient.of_x[c], run.mask);
      const __m512 shift = row(&gradient.shift[run.row], run.mask), mean = row(rows.mean + c, run.mask);
      for (int64_t p = run.first; p < run.last; ++p) {
        const __m512 term = _mm512_fmadd_ps(L::load(x + run.at(p), run.mask) - mean, by_x, shift);
        L::store(to + run.at(p), _mm512_fmadd_ps(L::load(d + run.at(p), run.mask), by_d, term), run.mask);
      }
    });
    of_x.deliver();
  }
  deliver(gradient.of_gamma, outputs[1], requests[1]);
  deliver(gradient.of_beta, outputs[2], requests[2]);
  if (context.is_train && call.count() > 0) follow(call, rows, inputs[6], inputs[7]);
}

// What x is multiplied by in front of the ReLU, and what is added.
struct Line {
  __m512 by, plus;

  Line(const NormRows& rows, const float* gates, const Run& run, int64_t channels) {
    const int64_t c = run.row % channels;
    by = row(rows.scale + c, run.mask), plus = row(rows.shift + c, run.mask);
    if (gates == nullptr) return;
    const __m512 gate = row(gates + run.row, run.mask);
    by *= gate, plus *= gate;
  }
};

template <bool gated, bool summed, bool six>
void norm_leave(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_leave", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  Buffer copies[2];
  const Bits *x = read(inputs[0], &copies[0]), *shortcut = summed ? read(inputs[2 + gated], &copies[1]) : nullptr;
  const RowInput statistics(inputs[1]), gates(inputs[gated ? 2 : 1]);
  const NormRows rows(statistics.data, shape[1]);
  Result y(outputs[0], requests[0]);
  Bits* to = y.data();
  for_runs(shape, false, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const Line line(rows, gated ? gates.data : nullptr, run, shape[1]);
    for (int64_t p = run.first; p < run.last; ++p) {
      __m512 sum = _mm512_fmadd_ps(L::load(x + run.at(p), run.mask), line.by, line.plus);
      if (summed) sum += L::load(shortcut + run.at(p), run.mask);
      sum = _mm512_max_ps(_mm512_setzero_ps(), sum);  // in this order NaN stays NaN
      L::store(to + run.at(p), six ? _mm512_min_ps(_mm512_set1_ps(6), sum) : sum, run.mask);
    }
  });
  y.deliver();
}

// (gradient, x, statistics[, gate][, y]) -> gradient of the sum, sums[, gradient of the gate]
template <bool gated, bool summed, bool six>
void norm_leave_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                         const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_leave", arrays, outputs);
  const mxnet::TShape& shape = inputs[1].shape();
  Buffer copies[3];
  const Bits *x = read(inputs[1], &copies[0]), *gradient = read(inputs[0], &copies[1]);
  const Bits* y = summed ? read(inputs[3 + gated], &copies[2]) : nullptr;
  const RowInput statistics(inputs[2]), gates(inputs[gated ? 3 : 2]);
  const NormRows rows(statistics.data, shape[1]);
  const int64_t numbers = shape[0] * shape[1], positions = area(shape);
  std::vector<float> sums((3 * shape[0] + kNormRows) * shape[1]), of_gate(gated ? numbers : 0);
  float *gate = sums.data(), *sum = gate + numbers, *along = sum + numbers;
  Result of_sum(outputs[0], requests[0]);
  Bits* to = of_sum.data();
  for_runs(shape, true, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const int64_t c = run.row % shape[1];
    const Line line(rows, gated ? gates.data : nullptr, run, shape[1]);
    const __m512 mean = row(rows.mean + c, run.mask);
    add_up(run, sum, along, [&](int64_t p, __m512* total, __m512* total_along) {
      const int64_t at = run.at(p);
      const __m512 value = L::load(x + at, run.mask);
      const __m512 passed = summed ? L::load(y + at, run.mask) : _mm512_fmadd_ps(value, line.by, line.plus);
      const __mmask16 is_passed =
          six ? _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(passed, _mm512_setzero_ps(), _CMP_NLT_UQ), passed,
                                        _mm512_set1_ps(6), _CMP_NGT_UQ)
              : _mm512_cmp_ps_mask(passed, _mm512_setzero_ps(), _CMP_GT_OQ);
      const __m512 d = _mm512_maskz_mov_ps(is_passed, L::load(gradient + at, run.mask));
      L::store(to + at, d, run.mask);
      *total += d;
      *total_along = _mm512_fmadd_ps(d, value - mean, *total_along);
    });
    if (run.last < positions) return;
    const __m512 by = gated ? row(gates.data + run.row, run.mask) : _mm512_set1_ps(1);
    const __m512 all = row(sum + run.row, run.mask);
    const __m512 all_along = row(along + run.row, run.mask) * row(rows.inverse + c, run.mask);
    set_row(gate + run.row, by, run.mask);
    set_row(sum + run.row, all * by, run.mask);
    set_row(along + run.row, all_along * by, run.mask);
    if (gated) {
      set_row(&of_gate[run.row], all_along * row(rows.gamma + c, run.mask) + all * row(rows.beta + c, run.mask),
              run.mask);
    }
  });
  of_sum.deliver();
  deliver(sums, outputs[1], requests[1]);
  if (gated) deliver(of_gate, outputs[2], requests[2]);
}

inline void sum_relu(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                     const Arrays& outputs) {
  const Arrays inputs = inputs_of("_sum_relu", arrays, outputs);
  Buffer copies[2];
  const Bits *a = read(inputs[0], &copies[0]), *b = read(inputs[1], &copies[1]);
  Result y(outputs[0], requests[0]);
  Bits* to = y.data();
  for_vectors(inputs[0].shape().Size(), [=](int64_t at, __mmask16 mask) {
    store(to + at, _mm512_max_ps(_mm512_setzero_ps(), load(a + at, mask) + load(b + at, mask)), mask);
  });
  y.deliver();
}

inline void sum_relu_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                              const Arrays& outputs) {
  const Arrays inputs = inputs_of("_sum_relu", arrays, outputs);
  Buffer copies[2];
  const Bits *y = read(inputs[1], &copies[0]), *gradient = read(inputs[0], &copies[1]);
  Result of_sum(outputs[0], requests[0]);
  Bits* to = of_sum.data();
  for_vectors(inputs[1].shape().Size(), [=](int64_t at, __mmask16 mask) {
    const __mmask16 passed = _mm512_cmp_ps_mask(load(y + at, mask), _mm512_setzero_ps(), _CMP_GT_OQ);
    store(to + at, _mm512_maskz_mov_ps(passed, load(gradient + at, mask)), mask);
  });
  of_sum.deliver();
}

template <bool maximum>
void pool_space(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_space", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const int64_t rows = shape[0] * shape[1], positions = area(shape);
  Buffer copy;
  const Bits* x = read(inputs[0], &copy);
  std::vector<float> means(rows), none(rows), maxima(maximum ? rows : 0), places(maximum ? rows : 0);
  for_runs(shape, true, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const __mmask16 mask = run.mask;
    add_up(run, means.data(), none.data(),
           [&](int64_t p, __m512* sum, __m512*) { *sum += L::load(x + run.at(p), mask); });
    if (run.last == positions) set_row(&means[run.row], row(&means[run.row], mask) / _mm512_set1_ps(positions), mask);
    if (!maximum) return;
    __m512 best = run.begins() ? L::load(x + run.base, mask) : row(&maxima[run.row], mask);
    __m512 place = run.begins() ? _mm512_setzero_ps() : row(&places[run.row], mask);
    for (int64_t p = run.first; p < run.last; ++p) {
      const __m512 value = L::load(x + run.at(p), mask);
      const __mmask16 more = _mm512_cmp_ps_mask(value, best, _CMP_GT_OQ);
      best = _mm512_mask_mov_ps(best, more, value);
      place = _mm512_mask_mov_ps(place, more, _mm512_set1_ps(p));
    }
    set_row(&maxima[run.row], best, mask);
    set_row(&places[run.row], place, mask);
  });
  kernels::deliver(means, outputs[1], requests[1]);
  if (maximum) kernels::deliver(maxima, outputs[2], requests[2]), kernels::deliver(places, outputs[3], requests[3]);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

template <bool maximum>
void pool_space_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays, const Requests& requests,
                         const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_space", arrays, outputs);
  const mxnet::TShape& shape = outputs[0].shape();
  const bool alone = is_alone(attrs);
  Buffer copy;
  const Bits* above = alone ? nullptr : read(inputs[0], &copy);
  const RowInput means(inputs[!alone]), maxima(inputs[!alone + maximum]), places(inputs[!alone + 2 * maximum]);
  Result of_x(outputs[0], requests[0]);
  const int64_t positions = area(shape);
  Bits* to = of_x.data();
  for_runs(shape, true, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const __m512 share = row(means.data + run.row, run.mask) / _mm512_set1_ps(positions);
    const __m512 most = maximum ? row(maxima.data + run.row, run.mask) : share;
    const __m512 place = maximum ? row(places.data + run.row, run.mask) : share;
    for (int64_t p = run.first; p < run.last; ++p) {
      __m512 value = alone ? share : L::load(above + run.at(p), run.mask) + share;
      if (maximum) {
        value = _mm512_mask_add_ps(value, _mm512_cmp_ps_mask(place, _mm512_set1_ps(p), _CMP_EQ_OQ), value, most);
      }
      L::store(to + run.at(p), value, run.mask);
    }
  });
  of_x.deliver();
}

inline void pool_channels(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                          const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_channels", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const int64_t positions = area(shape), channels = shape[1];
  Buffer copy;
  const Bits* x = read(inputs[0], &copy);
  std::vector<float> pooled(shape[0] * 2 * positions), places(shape[0] * positions);
  const auto all = [&](auto lanes_of) {
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
    for (int64_t n = shape[0] - 1; n >= 0; --n) {
      float *most = pooled.data() + n * 2 * positions, *mean = most + positions;
      for (int64_t p = 0; p < positions; p += kVector) {
        const __mmask16 mask = lanes(positions - p);
        const Bits* from = x + (n * positions + p) * channels;
        const Pooled pooled = pool_positions<decltype(lanes_of)>(from, channels, std::min(kVector, positions - p));
        set_row(most + p, pooled.most, mask);
        set_row(mean + p, pooled.sum / _mm512_set1_ps(channels), mask);
        set_row(&places[n * positions + p], pooled.place, mask);
      }
    }
  };
  channels % kVector == 0 ? all(Lanes<true>()) : all(Lanes<false>());
  kernels::deliver(pooled, outputs[1], requests[1]);
  kernels::deliver(places, outputs[2], requests[2]);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

inline void pool_channels_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays,
                                   const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_channels", arrays, outputs);
  const mxnet::TShape& shape = outputs[0].shape();
  const bool alone = is_alone(attrs);
  Buffer copy;
  const Bits* above = alone ? nullptr : read(inputs[0], &copy);
  const RowInput pooled(inputs[!alone]), places(inputs[1 + !alone]);
  Result of_x(outputs[0], requests[0]);
  const int64_t positions = area(shape), channels = shape[1];
  Bits* to = of_x.data();
  const __m512 counted = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for_runs(shape, true, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const int64_t n = run.row / channels;
    const float *most = pooled.data + n * 2 * positions, *mean = most + positions, *place = places.data + n * positions;
    const __m512 own = counted + _mm512_set1_ps(run.row % channels);
    for (int64_t p = run.first; p < run.last; ++p) {
      const __m512 share = _mm512_set1_ps(mean[p] / channels);
      __m512 value = alone ? share : L::load(above + run.at(p), run.mask) + share;
      const __mmask16 has = _mm512_cmp_ps_mask(own, _mm512_set1_ps(place[p]), _CMP_EQ_OQ);
      L::store(to + run.at(p), _mm512_mask_add_ps(value, has, value, _mm512_set1_ps(most[p])), run.mask);
    }
  });
  of_x.deliver();
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_FUSED_H_
