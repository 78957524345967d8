// Vectors into the form the search reads.
#pragma once
#include "layout.h"

namespace aifw {

// The arrays of a segment that encoding writes.
struct SegmentArrays {
  int64_t dimensions, row_floats, code_dimensions, block_bytes, low_bytes;
  const float* rows;
  uint8_t* blocks;
  uint8_t* low;
  float* reach;
  float* fine;
  double* norms;
};

int64_t row_floats(int64_t dimensions);
int64_t code_dimensions(int64_t dimensions);
int64_t block_bytes(int64_t dimensions);
int64_t low_bytes(int64_t dimensions);  // a row's share

// First row with a component that is not finite, or -1. `stride` in floats.
int64_t find_not_finite(const float* rows, int64_t count, int64_t dimensions, int64_t stride);

// Norms of rows first ... last - 1, and the coded form of every whole block that ends among them. Returns the largest of these
// norms.
double encode(const SegmentArrays& segment, Metric metric, int64_t first, int64_t last, int threads);

}  // namespace aifw
