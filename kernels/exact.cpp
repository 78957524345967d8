// Products of floats are exact in double arithmetic, so only their sum needs care. It is taken with its rounding errors (two-sum:
// Knuth, The Art of Computer Programming 2, 4.2.2, theorem B; the sum of errors and its bound: Ogita, Rump, Oishi, "Accurate sum
// and dot product", 2005). Where that does not decide the rounding, all bits are summed in fixed point (Kulisch).
#include "exact.h"

#include <cfloat>
#include <cmath>
#include <cstring>

static_assert(FLT_EVAL_METHOD == 0, "rounding errors are only known where each operation rounds to its own type");

namespace aifw {
namespace {

__extension__ typedef __int128 Wide;
__extension__ typedef unsigned __int128 UnsignedWide;

thread_local int64_t all_bits = 0;

// A value: sum + rest, up to `doubt` to either side.
struct Approximate {
  double sum, rest, doubt;
};

inline void two_sum(double& sum, double value, double& errors, double& sizes) {
  const double total = sum + value;
  const double part = total - sum;
  const double error = (sum - (total - part)) + (value - part);
  sum = total;
  errors += error;
  sizes += std::fabs(error);
}

constexpr int kLanes = 8;

struct Lanes {
  double sums[kLanes] = {}, errors[kLanes] = {}, sizes[kLanes] = {};

  template <typename Value>
  inline void add(const Value& value) {
    for (int j = 0; j < kLanes; ++j) two_sum(sums[j], value(j), errors[j], sizes[j]);
  }

  Approximate total(int64_t terms) const {
    double sum = sums[0], rest = errors[0], size = sizes[0];
    for (int j = 1; j < kLanes; ++j) {
      two_sum(sum, sums[j], rest, size);
      rest += errors[j];
      size += sizes[j];
    }
    // `rest` is a plain sum of at most terms + 8 numbers whose sizes add up to `size`.
    return {sum, rest, static_cast<double>(terms + 16) * 0x1p-52 * size};
  }
};

// Fixed point: 32-bit digits from 2^-448 up, with room for carries.
class AllBits {
 public:
  // Adds mantissa * 2^exponent.
  void add(Wide mantissa, int exponent) {
    const bool negative = mantissa < 0;
    UnsignedWide size = negative ? -static_cast<UnsignedWide>(mantissa) : static_cast<UnsignedWide>(mantissa);
    const int shift = exponent + kOffset;
    int digit = shift / 32;
    const int bits = shift % 32;
    uint64_t carry = 0;
    while (size || carry) {
      const uint64_t low = static_cast<uint64_t>(size & 0xffffffff) << bits | carry;
      digits_[digit++] += negative ? -static_cast<int64_t>(low & 0xffffffff) : static_cast<int64_t>(low & 0xffffffff);
      carry = low >> 32;
      size >>= 32;
    }
  }

  void add_product(float x, float y, int sign_and_twice) {
    int ex, ey;
    const auto mx = static_cast<int64_t>(std::ldexp(std::frexp(x, &ex), 24));
    const auto my = static_cast<int64_t>(std::ldexp(std::frexp(y, &ey), 24));
    add(static_cast<Wide>(mx) * my * sign_and_twice, ex + ey - 48);
  }

  // Makes every digit but the last lie in 0 ... 2^32 - 1. Returns the sign.
  int settle() {
    for (int i = 0; i + 1 < kDigits; ++i) {
      const int64_t carry = digits_[i] >> 32;
      digits_[i] -= carry * (int64_t{1} << 32);
      digits_[i + 1] += carry;
    }
    for (int i = kDigits - 1; i >= 0; --i)
      if (digits_[i]) return digits_[i] < 0 ? -1 : 1;
    return 0;
  }

  double rounded() {
    const int sign = settle();
    if (!sign) return 0.0;
    if (sign < 0) {
      for (auto& digit : digits_) digit = -digit;
      settle();
    }
    int top = kDigits - 1;
    while (!digits_[top]) --top;
    UnsignedWide head = 0;
    bool more = false;
    for (int i = top; i >= 0; --i) {
      if (top - i < 3)
        head = head << 32 | static_cast<uint64_t>(digits_[i]);
      else
        more = more || digits_[i];
    }
    // The head has 65 to 96 bits (or is all there is); 56 bits of it and a last one for everything below round like the whole.
    int exponent = 32 * (top > 2 ? top - 2 : 0) - kOffset;
    int width = 0;
    for (UnsignedWide rest = head; rest; rest >>= 1) ++width;
    const int drop = width > 56 ? width - 56 : 0;
    const auto kept = static_cast<uint64_t>(head >> drop);
    more = more || (head & ((static_cast<UnsignedWide>(1) << drop) - 1));
    const uint64_t sticky = kept << 1 | (more ? 1 : 0);
    const double value = static_cast<double>(sticky);  // rounds once, to nearest, ties to even
    return sign * std::ldexp(value, exponent + drop - 1);
  }

 private:
  static constexpr int kOffset = 448;
  static constexpr int kDigits = 28;  // up to 2^448
  int64_t digits_[kDigits] = {};
};

// The nearest double, if there is no doubt which it is.
inline bool decided(const Approximate& value, double& result) {
  const double nearest = value.sum + value.rest;
  const double part = nearest - value.sum;
  const double rest = (value.sum - (nearest - part)) + (value.rest - part);
  const double doubt = value.doubt + 0x1p-51 * std::fabs(rest);
  result = nearest;
  return value.doubt == 0 || (nearest + (rest + doubt) == nearest && nearest + (rest - doubt) == nearest);
}

Approximate squares(const float* x, int64_t floats) {
  Lanes lanes;
  for (int64_t i = 0; i < floats; i += kLanes)
    lanes.add([&](int j) { return static_cast<double>(x[i + j]) * x[i + j]; });
  return lanes.total(floats);
}

// The sign of S - m^2, with S the exact sum of squares and m = middle * 2^exponent.
int compare_square(const float* x, int64_t floats, int64_t middle, int exponent) {
  AllBits bits;
  for (int64_t i = 0; i < floats; ++i) bits.add_product(x[i], x[i], 1);
  bits.add(-(static_cast<Wide>(middle) * middle), 2 * exponent);
  return bits.settle();
}

double norm_of_all_bits(const float* x, int64_t floats) {
  ++all_bits;
  AllBits bits;
  for (int64_t i = 0; i < floats; ++i) bits.add_product(x[i], x[i], 1);
  double root = std::sqrt(bits.rounded());
  // The square root of the rounded sum is at most one step off; each step is decided at the middle between two neighbours.
  for (int tries = 0; tries < 4; ++tries) {
    int exponent;
    const auto mantissa = static_cast<int64_t>(std::ldexp(std::frexp(root, &exponent), 54));  // even: the middle is one off
    const int above = compare_square(x, floats, mantissa + 1, exponent - 54);
    const bool odd = mantissa / 2 & 1;
    if (above > 0 || (above == 0 && odd)) {
      root = std::nextafter(root, INFINITY);
      continue;
    }
    // Below a power of two the neighbour is half as far.
    const bool power = mantissa == int64_t{1} << 53;
    const int below = power ? compare_square(x, floats, 2 * mantissa - 1, exponent - 55)
                            : compare_square(x, floats, mantissa - 1, exponent - 54);
    if (below < 0 || (below == 0 && odd)) {
      root = std::nextafter(root, 0.0);
      continue;
    }
    break;
  }
  return root;
}

}  // namespace

double exact_inner_product(const float* x, const float* y, int64_t floats) {
  Lanes lanes;
  for (int64_t i = 0; i < floats; i += kLanes)
    lanes.add([&](int j) { return static_cast<double>(x[i + j]) * y[i + j]; });
  double result;
  if (decided(lanes.total(floats), result)) return result;
  ++all_bits;
  AllBits bits;
  for (int64_t i = 0; i < floats; ++i) bits.add_product(x[i], y[i], 1);
  return bits.rounded();
}

double exact_squared_distance(const float* x, const float* y, int64_t floats) {
  if (std::memcmp(x, y, floats * sizeof(float)) == 0) return 0.0;
  Lanes lanes;
  for (int64_t i = 0; i < floats; i += kLanes) {
    lanes.add([&](int j) { return static_cast<double>(x[i + j]) * x[i + j]; });
    lanes.add([&](int j) { return static_cast<double>(y[i + j]) * y[i + j]; });
    lanes.add([&](int j) { return -2 * (static_cast<double>(x[i + j]) * y[i + j]); });
  }
  double result;
  if (decided(lanes.total(3 * floats), result)) return result;
  ++all_bits;
  AllBits bits;
  for (int64_t i = 0; i < floats; ++i) {
    bits.add_product(x[i], x[i], 1);
    bits.add_product(y[i], y[i], 1);
    bits.add_product(x[i], y[i], -2);
  }
  return bits.rounded();
}

double exact_norm(const float* x, int64_t floats) {
  const Approximate sum = squares(x, floats);
  if (sum.sum == 0) return 0.0;
  const double root = std::sqrt(sum.sum + sum.rest);
  // root^2 = high + low exactly (Dekker's product; Veltkamp's splitting).
  const double split = root * 134217729.0;
  const double a = split - (split - root), b = root - a;
  const double high = root * root;
  const double low = ((a * a - high) + 2 * a * b) + b * b;
  // sum - high is exact (Sterbenz), the rest small, so that the step to the true root is known to far below its own size.
  const double residual = ((sum.sum - high) - low) + sum.rest;
  const double step = residual / (2 * root);
  const double doubt = sum.doubt / (2 * root) * (1 + 0x1p-20) + 0x1p-48 * std::fabs(step) + 0x1p-100 * root;
  if (root + (step + doubt) == root + (step - doubt)) return root + step;
  return norm_of_all_bits(x, floats);
}

int64_t sums_of_all_bits() { return all_bits; }

}  // namespace aifw
