// What the two sides of a bound share: how rows are coded and how queries are. PROOF.md names the constants.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace aifw {

// Bounds are computed in double arithmetic; this covers their own rounding for up to kMaximumDimensions.
constexpr double kInflate = 1 + 0x1p-30;
// Smaller scales and norms are raised to this, so that no product of a filter leaves the range of normal floats.
constexpr double kFloor = 0x1p-60;

// The smallest float not below a value.
inline float round_up(double value) {
  const float nearest = static_cast<float>(value);
  return nearest < value ? std::nextafterf(nearest, std::numeric_limits<float>::infinity()) : nearest;
}

inline double bfloat_value(uint16_t bfloat) {
  const uint32_t bits = static_cast<uint32_t>(bfloat) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace aifw
