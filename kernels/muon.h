// Muon's step for all parameters as one operator: near-orthogonal directions for matrices, Nesterov's step for the rest.
//
// See training/optim/muon.py. Products of a small network's matrices take less time than MXNet's calls for them.
#ifndef KERNELS_MUON_H_
#define KERNELS_MUON_H_

#include <cmath>

#include "elementwise.h"
#include "multi_tensor.h"
#include "simd.h"

namespace kernels {

// Matrices in rows of whole vectors, with zeros behind the numbers.
class Rows {
 public:
  typedef Simd<kLanes> S;
  static constexpr int64_t kHigh = 4, kAcross = kLanes == 16 ? 4 : 2;  // vectors of sums that fit into registers

  Rows(int64_t rows, int64_t columns)
      : rows_((rows + kHigh - 1) / kHigh * kHigh),
        stride_((columns + kAcross * kLanes - 1) / (kAcross * kLanes) * kAcross * kLanes),
        data_(rows_ * stride_) {}

  float* operator[](int64_t row) { return data_.data() + row * stride_; }
  const float* operator[](int64_t row) const { return data_.data() + row * stride_; }

  // this <- a a', of as many rows as a
  void square_of(const Rows& a) {
    for (int64_t i = 0; i < rows_; i += kHigh) {
      for (int64_t j = i; j < rows_; j += kHigh) {
        S::Floats sums[kHigh][kHigh] = {};
        for (int64_t k = 0; k < a.stride_; k += kLanes) {
          S::Floats other[kHigh];
          for (int64_t y = 0; y < kHigh; ++y) other[y] = S::load(a[j + y] + k);
          for (int64_t x = 0; x < kHigh; ++x) {
            const S::Floats own = S::load(a[i + x] + k);
            for (int64_t y = 0; y < kHigh; ++y) sums[x][y] += own * other[y];
          }
        }
        for (int64_t x = 0; x < kHigh; ++x) {
          for (int64_t y = 0; y < kHigh; ++y) {
            float sum = 0;
            for (int lane = 0; lane < kLanes; ++lane) sum += sums[x][y][lane];
            (*this)[i + x][j + y] = (*this)[j + y][i + x] = sum;
          }
        }
      }
    }
  }

  // this <- first a + factor a
  void polynomial_of(float first, const Rows& factor, const Rows& a) {
    for (int64_t c = 0; c < stride_; c += kAcross * kLanes) {
      for (int64_t i = 0; i < rows_; i += kHigh) {
        S::Floats sums[kHigh][kAcross];
        for (int64_t x = 0; x < kHigh; ++x) {
          for (int64_t y = 0; y < kAcross; ++y) sums[x][y] = first * S::load(a[i + x] + c + y * kLanes);
        }
        for (int64_t k = 0; k < rows_; ++k) {
          S::Floats row[kAcross];
          for (int64_t y = 0; y < kAcross; ++y) row[y] = S::load(a[k] + c + y * kLanes);
          for (int64_t x = 0; x < kHigh; ++x) {
            const float by = factor[i + x][k];
            for (int64_t y = 0; y < kAcross; ++y) sums[x][y] += by * row[y];
          }
        }
        for (int64_t x = 0; x < kHigh; ++x) {
          for (int64_t y = 0; y < kAcross; ++y) S::store((*this)[i + x] + c + y * kLanes, sums[x][y]);
        }
      }
    }
  }

  // this <- third this + fifth square
  void add(float third, float fifth, const Rows& square) {
    for (size_t k = 0; k < data_.size(); ++k) data_[k] = third * data_[k] + fifth * square.data_[k];
  }

  void scale(float by) {
    for (float& number : data_) number *= by;
  }

  double squares() const {
    double sum = 0;
    for (float number : data_) sum += static_cast<double>(number) * number;
    return sum;
  }

 private:
  int64_t rows_, stride_;
  std::vector<float> data_;
};

// The direction of a weight's step in place of its momentum, (filters, numbers of each).
inline void turn_to_direction(float* momentum, int64_t filters, int64_t numbers) {
  constexpr float kFirst = 3.4445f, kThird = -4.7750f, kFifth = 2.0315f;
  constexpr int kRounds = 5;
  const bool high = filters > numbers;
  const int64_t rows = std::min(filters, numbers), columns = std::max(filters, numbers);
  Rows matrix(rows, columns), next(rows, columns), factor(rows, rows), square(rows, rows);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < columns; ++k) matrix[i][k] = high ? momentum[k * rows + i] : momentum[i * columns + k];
  }
  matrix.scale(static_cast<float>(1 / std::sqrt(matrix.squares() + 1e-20)));
  for (int round = 0; round < kRounds; ++round) {
    factor.square_of(matrix);
    square.square_of(factor);  // which is symmetric
    factor.add(kThird, kFifth, square);
    next.polynomial_of(kFirst, factor, matrix);
    std::swap(matrix, next);
  }
  const float by = high ? std::sqrt(static_cast<float>(columns) / rows) : 1.0f;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < columns; ++k) momentum[high ? k * rows + i : i * columns + k] = matrix[i][k] * by;
  }
}

// (n weights, n gradients, n momenta, rates (3 n + 3): learning rates, weight decays, whether each is a matrix, momentum,
// factor of the gradients, factor of the matrices' rates) -> n weights, and the squared norm (1,) of the gradients; the
// momenta change.
inline void multi_muon_update(const NodeAttrs&, const OpContext&, const Blobs& inputs, const Requests& requests,
                              const Blobs& outputs) {
  check_overwrites("_multi_muon_update", requests);
  ++calls();
  const size_t count = outputs.size() - 1;
  const float *learning_rates = inputs[3 * count].dptr<float>(), *decays = learning_rates + count;
  const float *is_matrix = decays + count, momentum = is_matrix[count], rescale = is_matrix[count + 1];
  const float scale = is_matrix[count + 2];
  std::vector<size_t> matrices;
  std::vector<std::vector<float>> ahead(count);
  for (size_t k = 0; k < count; ++k) {
    if (is_matrix[k] != 0) matrices.push_back(k), ahead[k].resize(inputs[k].Size());
  }
  const double squared_norm = over_ranges(inputs, count, [&](size_t k, int64_t begin, int64_t end) {
    if (is_matrix[k] == 0) return nag_range(inputs, outputs, count, k, begin, end, momentum, rescale);
    const float* gradient = inputs[count + k].dptr<float>();
    float *velocity = inputs[2 * count + k].dptr<float>(), *to = ahead[k].data(), squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = begin; i < end; ++i) {
      const float g = rescale * gradient[i];
      velocity[i] = momentum * velocity[i] + g;
      to[i] = g + momentum * velocity[i];
      squares += gradient[i] * gradient[i];
    }
    return squares;
  });
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1)
  for (size_t one = 0; one < matrices.size(); ++one) {
    const size_t k = matrices[one];
    const int64_t filters = inputs[k].shape_[0], size = inputs[k].Size();
    turn_to_direction(ahead[k].data(), filters, size / filters);
    const float rate = learning_rates[k] * scale, decay = decays[k] / (scale * (1 - momentum));
    const float *weight = inputs[k].dptr<float>(), *direction = ahead[k].data();
    float* updated = outputs[k].dptr<float>();
    for (int64_t i = 0; i < size; ++i) updated[i] = weight[i] - rate * (direction[i] + decay * weight[i]);
  }
  *outputs[count].dptr<float>() = static_cast<float>(squared_norm);
}

inline void register_multi_muon_update() {
  register_update(register_multi_tensor<update_shapes<3>, nag_types>("_multi_muon_update", multi_muon_update));
}

}  // namespace kernels

#endif  // KERNELS_MUON_H_
