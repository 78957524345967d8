// Arrays of a segment, each in memory of exactly its size, so that a sanitizer sees a read or write beside it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "encode.h"
#include "exact.h"
#include "search.h"

namespace checks {

struct Release {
  void operator()(void* memory) const { std::free(memory); }
};

template <class T>
using Array = std::unique_ptr<T[], Release>;

template <class T>
Array<T> allocate(int64_t count) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, std::max<size_t>(1, static_cast<size_t>(count) * sizeof(T)))) std::abort();
  return Array<T>(static_cast<T*>(memory));
}

// Room for `capacity` rows, of which the first `count` are searched.
struct Arrays {
  Arrays(int64_t dimensions, int64_t capacity) : dimensions(dimensions), capacity(capacity) {
    const int64_t whole = capacity / aifw::kBlockRows;
    rows = allocate<float>(capacity * aifw::row_floats(dimensions));
    std::fill_n(rows.get(), capacity * aifw::row_floats(dimensions), 0.0f);
    blocks = allocate<uint8_t>(whole * aifw::block_bytes(dimensions));
    low = allocate<uint8_t>(whole * aifw::kBlockRows * aifw::low_bytes(dimensions));
    reach = allocate<float>(whole);
    fine = allocate<float>(whole * aifw::kBlockRows);
    norms = allocate<double>(capacity);
    ids = allocate<int64_t>(capacity);
    mask = allocate<uint16_t>((capacity + aifw::kBlockRows - 1) / aifw::kBlockRows);
    std::fill_n(mask.get(), (capacity + aifw::kBlockRows - 1) / aifw::kBlockRows, uint16_t{0xffff});
  }

  float* row(int64_t i) const { return rows.get() + i * aifw::row_floats(dimensions); }

  bool allowed(int64_t i) const { return mask[i / aifw::kBlockRows] >> i % aifw::kBlockRows & 1; }

  double encode(aifw::Metric metric, int64_t first, int64_t last, int threads) {
    aifw::SegmentArrays arrays = {};
    arrays.dimensions = dimensions;
    arrays.row_floats = aifw::row_floats(dimensions);
    arrays.code_dimensions = aifw::code_dimensions(dimensions);
    arrays.block_bytes = aifw::block_bytes(dimensions);
    arrays.low_bytes = aifw::low_bytes(dimensions);
    arrays.rows = rows.get();
    arrays.blocks = blocks.get();
    arrays.low = low.get();
    arrays.reach = reach.get();
    arrays.fine = fine.get();
    arrays.norms = norms.get();
    return aifw::encode(arrays, metric, first, last, threads);
  }

  aifw::Segment view(int64_t count, double largest, bool masked) const {
    aifw::Segment segment = {};
    segment.dimensions = dimensions;
    segment.row_floats = aifw::row_floats(dimensions);
    segment.code_dimensions = aifw::code_dimensions(dimensions);
    segment.block_bytes = aifw::block_bytes(dimensions);
    segment.low_bytes = aifw::low_bytes(dimensions);
    segment.rows = rows.get();
    segment.blocks = blocks.get();
    segment.low = low.get();
    segment.reach = reach.get();
    segment.fine = fine.get();
    segment.norms = norms.get();
    segment.ids = ids.get();
    segment.mask = masked ? mask.get() : nullptr;
    segment.count = count;
    segment.largest = largest;
    return segment;
  }

  int64_t dimensions, capacity;
  Array<float> rows, reach, fine;
  Array<uint8_t> blocks, low;
  Array<double> norms;
  Array<int64_t> ids;
  Array<uint16_t> mask;
};

// The score by definition.
inline double score(const Arrays& arrays, int64_t i, const float* padded_query, double query_norm, aifw::Metric metric) {
  const int64_t floats = aifw::row_floats(arrays.dimensions);
  if (metric == aifw::kSquaredDistance) return aifw::exact_squared_distance(arrays.row(i), padded_query, floats);
  const double product = aifw::exact_inner_product(arrays.row(i), padded_query, floats);
  if (metric == aifw::kInnerProduct) return product;
  const double norms = aifw::exact_norm(arrays.row(i), floats) * query_norm;
  return norms > 0 ? product / norms : 0.0;
}

// Orders by score and id, the best first.
inline bool better(aifw::Metric metric, const std::pair<double, int64_t>& a, const std::pair<double, int64_t>& b) {
  if (a.first != b.first) return metric == aifw::kSquaredDistance ? a.first < b.first : a.first > b.first;
  return a.second < b.second;
}

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

}  // namespace checks
