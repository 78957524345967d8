// Sums of products of floats, rounded once.
#pragma once
#include <cstdint>

namespace aifw {

// The inner product of x and y, exact and then rounded to the nearest double, ties to even.
double exact_inner_product(const float* x, const float* y, int64_t floats);

// The same of the squared Euclidean distance.
double exact_squared_distance(const float* x, const float* y, int64_t floats);

// The same of the Euclidean norm.
double exact_norm(const float* x, int64_t floats);

// How often this thread had to fall back on summing all bits, since it started.
int64_t sums_of_all_bits();

}  // namespace aifw
