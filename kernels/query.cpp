// Coding of a query. PROOF.md names each inequality used here.
#include "query.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "bounds.h"
#include "encode.h"
#include "exact.h"

namespace aifw {
namespace {

// More than every rounding of the filter's arithmetic together.
constexpr double kSlack = 0x1p-20;

}  // namespace

Query prepare(const float* values, int64_t dimensions, Metric metric, bool six, int levels) {
  Query query;
  query.values.assign(row_floats(dimensions), 0.0f);
  std::copy(values, values + dimensions, query.values.begin());
  query.codes.assign(code_dimensions(dimensions), 0);
  query.norm = exact_norm(query.values.data(), static_cast<int64_t>(query.values.size()));
  double largest = 0;
  for (int64_t j = 0; j < dimensions; ++j) largest = std::max(largest, std::fabs(static_cast<double>(values[j])));
  // Where only the order of inner products counts, the query may have any length.
  query.unit = metric == kSquaredDistance || largest == 0 ? 1.0 : std::ldexp(1.0, std::ilogb(largest));
  query.coded = metric != kSquaredDistance || query.norm < 0x1p60;
  const float scale = round_up(std::max(largest / query.unit / levels, kFloor));
  query.scale = scale;
  double left = 0;
  query.code_sum = 0;
  for (int64_t j = 0; j < dimensions; ++j) {
    const double value = values[j] / query.unit;
    const int code = query.coded ? std::clamp(static_cast<int>(std::nearbyint(value / scale)), -levels, levels) : 0;
    const double rest = value - query.scale * code;
    left += rest * rest;
    query.codes[j] = static_cast<int8_t>(code);
    query.code_sum += code;
  }
  query.reach = query.norm / query.unit * kInflate;
  query.error = std::sqrt(left) * kInflate;
  query.tile_offset = (six ? 63 : 15) * query.code_sum;
  query.tile_scale = scale / (six ? 8 : 2);
  query.tile_norm = round_up(query.reach * (1 + kSlack) + 0x1p-40);
  query.tile_error = round_up((query.error + kSlack * (query.reach + query.error)) * (1 + kSlack) + kFloor);
  return query;
}

}  // namespace aifw
