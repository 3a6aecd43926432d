// Small arrays in plain order: operations of units between vectors and planes, of any shape, not tuned for speed.
#pragma once
#include <algorithm>

#include "plan.h"

constexpr int DIMS = 6;

// Reads the shape of a loop and a place in a tensor: offset and strides; checks that all places lie in the tensor.
struct Places {
  int64_t offset = 0, stride[DIMS] = {};
  Tensor tensor;
  void read(Reader& in, int dims, const int64_t* shape) {
    const int64_t most = int64_t(1) << 32;
    offset = in.number(0, most);
    int64_t last = offset;
    for (int d = 0; d < dims; ++d) {
      stride[d] = in.number(0, most);
      last += times(shape[d] - 1, stride[d]);
    }
    tensor = in.tensor(last + 1);
  }
};

// Numbers: dims, shape, places of the output, places of the input: copies. It joins, cuts, turns and unblocks.
class Copy : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Copy(in)); }
  explicit Copy(Reader& in) {
    kind = "copy";
    dims_ = int(in.number(1, DIMS));
    int64_t total = 1;
    for (int d = 0; d < dims_; ++d) total = times(total, shape_[d] = in.extent());
    to_.read(in, dims_, shape_);
    from_.read(in, dims_, shape_);
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    copy(0, from_.tensor.at(frame, image) + from_.offset, to_.tensor.at(frame, image) + to_.offset);
  }

 private:
  void copy(int d, const float* from, float* to) const {
    const int64_t n = shape_[d], a = from_.stride[d], b = to_.stride[d];
    if (d == dims_ - 1) {
      if (a == 1 && b == 1) memmove(to, from, size_t(n) * 4);
      else for (int64_t i = 0; i < n; ++i) to[i * b] = from[i * a];
    } else {
      for (int64_t i = 0; i < n; ++i) copy(d + 1, from + i * a, to + i * b);
    }
  }
  int dims_;
  int64_t shape_[DIMS];
  Places to_, from_;
};

// Numbers: dims, shape, function, two constants (float bits), places of the output, of the first and, for functions of
// two, the second input. Broadcasting is a stride of 0.
class Plain : public Operator {
 public:
  enum Function : int64_t {
    ADD, SUB, MUL, DIV, MAX, MIN,  // of two
    AFFINE_ONE,                    // a x + b
    RELU_ONE, CLIP_ONE, SIGMOID_ONE, TANH_ONE, EXP_ONE, SQRT_ONE, RSQRT_ONE, SQUARE_ONE, MAX_ONE, RECIPROCAL_ONE,
    FUNCTIONS
  };
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Plain(in)); }
  explicit Plain(Reader& in) {
    kind = "plain";
    dims_ = int(in.number(1, DIMS));
    int64_t total = 1;
    for (int d = 0; d < dims_; ++d) total = times(total, shape_[d] = in.extent());
    function_ = Function(in.number(0, FUNCTIONS - 1));
    a_ = in.real();
    b_ = in.real();
    to_.read(in, dims_, shape_);
    one_.read(in, dims_, shape_);
    if (function_ <= MIN) two_.read(in, dims_, shape_);
    else two_ = one_;
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    loop(0, one_.tensor.at(frame, image) + one_.offset, two_.tensor.at(frame, image) + two_.offset,
         to_.tensor.at(frame, image) + to_.offset);
  }

 private:
  void loop(int d, const float* x, const float* y, float* to) const {
    const int64_t n = shape_[d], sx = one_.stride[d], sy = two_.stride[d], st = to_.stride[d];
    if (d < dims_ - 1) {
      for (int64_t i = 0; i < n; ++i) loop(d + 1, x + i * sx, y + i * sy, to + i * st);
      return;
    }
    int64_t i = 0;
    if (st == 1 && sx <= 1 && sy <= 1)
      for (; i + L <= n; i += L) store(to + i, of(sx ? load(x + i) : all(*x), sy ? load(y + i) : all(*y)));
    for (; i < n; ++i) to[i * st] = of(all(x[i * sx]), all(y[i * sy]))[0];
  }
  V of(V x, V y) const {
    switch (function_) {
      case ADD: return x + y;
      case SUB: return x - y;
      case MUL: return x * y;
      case DIV: return x / y;
      case MAX: return x != x || x > y ? x : y;
      case MIN: return x != x || x < y ? x : y;
      case AFFINE_ONE: return x * a_ + b_;
      case RELU_ONE: return relu(x);
      case CLIP_ONE: x = x < all(a_) ? all(a_) : x; return x > all(b_) ? all(b_) : x;
      case SIGMOID_ONE: return sigmoid(x);
      case TANH_ONE: return tangent(x);
      case EXP_ONE: return exponential(x);
      case SQRT_ONE: for (int l = 0; l < L; ++l) x[l] = std::sqrt(x[l]); return x;
      case RSQRT_ONE: for (int l = 0; l < L; ++l) x[l] = 1.0f / std::sqrt(x[l]); return x;
      case SQUARE_ONE: return x * x;
      case MAX_ONE: return x < all(a_) ? all(a_) : x;
      case RECIPROCAL_ONE: return 1.0f / x;
      case FUNCTIONS: break;
    }
    return x;
  }
  int dims_;
  int64_t shape_[DIMS];
  Function function_;
  float a_, b_;
  Places to_, one_, two_;
};

// Numbers: rows before, length, stride along it, kind (0 softmax, 1 sum, 2 mean, 3 maximum), input, output. Arrays
// (rows, length, stride): softmax keeps the shape; the others leave (rows, stride).
class Along : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Along(in)); }
  explicit Along(Reader& in) {
    kind = "along";
    rows_ = in.extent();
    length_ = in.extent();
    stride_ = in.extent();
    how_ = in.number(0, 3);
    from_ = in.tensor(times(rows_, length_, stride_));
    to_ = in.tensor(how_ ? times(rows_, stride_) : times(rows_, length_, stride_));
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    const float* x = from_.at(frame, image);
    float* y = to_.at(frame, image);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t s = 0; s < stride_; ++s) {
        const float* from = x + r * length_ * stride_ + s;
        if (how_ == 0 || how_ == 3) {
          float most = from[0];
          for (int64_t i = 1; i < length_; ++i) {
            const float t = from[i * stride_];
            most = most != most || most > t ? most : t;
          }
          if (how_ == 3) {
            y[r * stride_ + s] = most;
            continue;
          }
          float* to = y + r * length_ * stride_ + s;
          float sum = 0;
          for (int64_t i = 0; i < length_; ++i) sum += to[i * stride_] = std::exp(from[i * stride_] - most);
          for (int64_t i = 0; i < length_; ++i) to[i * stride_] /= sum;
        } else {
          double sum = 0;
          for (int64_t i = 0; i < length_; ++i) sum += from[i * stride_];
          y[r * stride_ + s] = float(how_ == 2 ? sum / double(length_) : sum);
        }
      }
  }

 private:
  int64_t rows_, length_, stride_, how_;
  Tensor from_, to_;
};

// Numbers: rows, length, epsilon (float bits), input, output, scale, shift: each row normalised over its length.
class LayerNorm : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new LayerNorm(in)); }
  explicit LayerNorm(Reader& in) {
    kind = "layer norm";
    rows_ = in.extent();
    length_ = in.extent();
    epsilon_ = in.real();
    from_ = in.tensor(times(rows_, length_));
    to_ = in.tensor(times(rows_, length_));
    scale_ = in.weights(length_);
    shift_ = in.weights(length_);
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    for (int64_t r = 0; r < rows_; ++r) {
      const float* x = from_.at(frame, image) + r * length_;
      float* y = to_.at(frame, image) + r * length_;
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < length_; ++i) sum += x[i];
      const double mean = sum / double(length_);
      for (int64_t i = 0; i < length_; ++i) squares += (x[i] - mean) * (x[i] - mean);
      const double factor = 1.0 / std::sqrt(squares / double(length_) + epsilon_);
      for (int64_t i = 0; i < length_; ++i) y[i] = float((x[i] - mean) * factor) * scale_[i] + shift_[i];
    }
  }

 private:
  int64_t rows_, length_;
  float epsilon_;
  Tensor from_, to_;
  const float *scale_, *shift_;
};

// Numbers: batches, rows, columns, inner, and for each of the three matrices the strides of batch, row (or inner) and
// column (or inner): output (batch, row, column), left (batch, row, inner), right (batch, inner, column).
class Products : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Products(in)); }
  explicit Products(Reader& in) {
    kind = "products";
    for (int64_t& n : shape_) n = in.extent();
    times(shape_[0], shape_[1], shape_[2], shape_[3]);  // so that it comes to an end
    const int64_t to[3] = {shape_[0], shape_[1], shape_[2]}, left[3] = {shape_[0], shape_[1], shape_[3]},
                  right[3] = {shape_[0], shape_[3], shape_[2]};
    to_.read(in, 3, to);
    left_.read(in, 3, left);
    right_.read(in, 3, right);
    macs = double(shape_[0]) * double(shape_[1]) * double(shape_[2]) * double(shape_[3]);
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    const float* x = left_.tensor.at(frame, image) + left_.offset;
    const float* y = right_.tensor.at(frame, image) + right_.offset;
    float* to = to_.tensor.at(frame, image) + to_.offset;
    for (int64_t n = 0; n < shape_[0]; ++n)
      for (int64_t i = 0; i < shape_[1]; ++i)
        for (int64_t j = 0; j < shape_[2]; ++j) {
          const float* a = x + n * left_.stride[0] + i * left_.stride[1];
          const float* b = y + n * right_.stride[0] + j * right_.stride[2];
          float sum = 0;
          for (int64_t k = 0; k < shape_[3]; ++k) sum += a[k * left_.stride[2]] * b[k * right_.stride[1]];
          to[n * to_.stride[0] + i * to_.stride[1] + j * to_.stride[2]] = sum;
        }
  }

 private:
  int64_t shape_[4];
  Places to_, left_, right_;
};

// Numbers: channels in, channels out, height, width, kernel height and width (odd), parts, input planes, output planes,
// weights (out, in, row, column), bias: a convolution of a few plain planes to planes of their size, as CBAM's 7x7 one.
class Planes : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Planes(in)); }
  explicit Planes(Reader& in) {
    kind = "planes";
    in_ = in.number(1, 64);
    out_ = in.number(1, 64);
    h_ = in.extent();
    w_ = in.extent();
    kernel_h_ = in.number(1, 63);
    kernel_w_ = in.number(1, 63);
    if (kernel_h_ % 2 == 0 || kernel_w_ % 2 == 0) invalid("a kernel on planes is odd");
    parts_ = in.number(1, h_);
    from_ = in.tensor(times(in_, h_, w_));
    to_ = in.tensor(times(out_, h_, w_));
    weights_ = in.weights(times(out_, in_, kernel_h_ * kernel_w_));
    bias_ = in.weights(out_);
    pitch_ = (w_ + L - 1) / L * L + kernel_w_ - 1;
    macs = double(in_ * out_) * double(kernel_h_ * kernel_w_) * double(h_ * w_);
  }
  int64_t units() const override { return parts_; }
  int64_t scratch() const override { return times(in_, h_ / parts_ + 1 + kernel_h_, pitch_) + 4 * L; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t part = first; part < last; ++part) rows(frame, image, part * h_ / parts_, (part + 1) * h_ / parts_);
  }

 private:
  void rows(const Frame& frame, int64_t image, int64_t begin, int64_t end) const {
    const float* x = from_.at(frame, image);
    float* y = to_.at(frame, image);
    const int64_t height = end - begin + kernel_h_ - 1, above = kernel_h_ / 2, left = kernel_w_ / 2;
    memset(frame.scratch, 0, size_t(in_ * height * pitch_ + 4 * L) * 4);
    for (int64_t c = 0; c < in_; ++c)
      for (int64_t r = 0; r < height; ++r) {
        const int64_t source = begin + r - above;
        if (source >= 0 && source < h_)
          memcpy(frame.scratch + (c * height + r) * pitch_ + left, x + (c * h_ + source) * w_, size_t(w_) * 4);
      }
    for (int64_t o = 0; o < out_; ++o)
      for (int64_t r = begin; r < end; ++r)
        for (int64_t q = 0; q < w_; q += L) {
          V sums[2] = {all(bias_[o]), V{}};
          for (int64_t c = 0; c < in_; ++c)
            for (int64_t a = 0; a < kernel_h_; ++a) {
              const float* from = frame.scratch + (c * height + r - begin + a) * pitch_ + q;
              const float* w = weights_ + ((o * in_ + c) * kernel_h_ + a) * kernel_w_;
              for (int64_t b = 0; b < kernel_w_; ++b) sums[b & 1] += load(from + b) * all(w[b]);
            }
          const V v = sums[0] + sums[1];
          const int64_t n = std::min<int64_t>(L, w_ - q);
          float* to = y + (o * h_ + r) * w_ + q;
          if (n == L) store(to, v);
          else for (int64_t l = 0; l < n; ++l) to[l] = v[l];
        }
  }
  int64_t in_, out_, h_, w_, kernel_h_, kernel_w_, parts_, pitch_;
  Tensor from_, to_;
  const float *weights_, *bias_;
};

// Numbers: length, output, weights: constants, where an operator reads tensors only.
class Constant : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Constant(in)); }
  explicit Constant(Reader& in) {
    kind = "constant";
    length_ = in.number(1, MOST);
    to_ = in.tensor(length_);
    weights_ = in.weights(length_);
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    memcpy(to_.at(frame, image), weights_, size_t(length_) * 4);
  }

 private:
  int64_t length_;
  Tensor to_;
  const float* weights_;
};
