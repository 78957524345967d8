// A query made ready: coded for the filter, with the bounds that belong to it.
#pragma once
#include <cstdint>
#include <vector>

#include "layout.h"

namespace aifw {

struct Query {
  std::vector<float> values;   // padded with zeros to row_floats
  std::vector<int8_t> codes;   // padded with zeros to code_dimensions
  double norm;                 // Euclidean norm, rounded once
  double unit;                 // power of two: the filter sees values / unit
  double scale;                // of the codes, in terms of values / unit
  double reach;                // at least the norm of values / unit
  double error;                // at least the norm of what the codes leave out, in the same terms
  int32_t code_sum;
  int32_t tile_offset;
  float tile_scale, tile_norm, tile_error;
  bool coded;                  // false: too large for float arithmetic; every row is scored from its floats
};

// `six`: for the filter that begins with six bits. Codes are at most `levels` in size.
Query prepare(const float* values, int64_t dimensions, Metric metric, bool six, int levels);

}  // namespace aifw
