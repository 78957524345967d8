// Exact search over segments.
#pragma once
#include <cstdint>
#include <vector>

#include "layout.h"

namespace aifw {

struct Statistics {
  int64_t rows = 0;     // pairs of query and row the first pass looked at
  int64_t refined = 0;  // of these: second plane read
  int64_t scored = 0;   // of these: scored from the floats in double arithmetic
  int64_t exact = 0;    // of these: scored exactly
  int64_t summed = 0;   // of these: rounding was ambiguous, and all bits were summed
};

// How many rows of the segments may be found.
int64_t eligible(const std::vector<Segment>& segments);

// The `k` best rows of each query, by score and id; k must not be above eligible(). `queries` is count x dimensions of finite
// floats. `ids` and `scores` are count x k.
Statistics search(const std::vector<Segment>& segments, const float* queries, int64_t count, int64_t dimensions, Metric metric,
                  int64_t k, int threads, const std::vector<int>& processors, int64_t* ids, double* scores);

}  // namespace aifw
