// Encodes and searches rows of many shapes and sizes at every usable level, and compares with the definition. Meant to be compiled
// with -fsanitize=address,undefined; prints how many searches agreed.
#include <cfloat>
#include <cmath>
#include <random>

#include "arrays.h"

namespace {

using aifw::Metric;
using checks::Arrays;

class Shapes {
 public:
  explicit Shapes(uint64_t seed) : random_(seed) {}

  int64_t searches = 0;

  void run(int64_t dimensions, int64_t count, Metric metric) {
    const int64_t split = count > 1 && below(2) ? below(count) : count;
    std::vector<Arrays> segments;
    for (const int64_t size : {split, count - split})
      if (size) segments.emplace_back(dimensions, size);
    const int values = static_cast<int>(below(kValues));
    int64_t next_id = below(3) ? 0 : INT64_MIN;
    std::vector<double> largest;
    for (Arrays& arrays : segments) {
      for (int64_t i = 0; i < arrays.capacity; ++i) {
        fill(arrays.row(i), dimensions, values);
        if (i && below(8) == 0) std::copy_n(arrays.row(below(i)), dimensions, arrays.row(i));
        arrays.ids[i] = next_id++;
        if (below(3) == 0) std::swap(arrays.ids[i], arrays.ids[below(i + 1)]);
      }
      // Row by row, at once, or in between.
      double norm = 0;
      for (int64_t first = 0; first < arrays.capacity;) {
        const int64_t last = below(2) ? arrays.capacity : first + 1 + below(arrays.capacity - first);
        norm = std::max(norm, arrays.encode(metric, first, last, 1 + static_cast<int>(below(3))));
        first = last;
      }
      largest.push_back(norm);
    }
    const int masks = static_cast<int>(below(4));
    for (Arrays& arrays : segments)
      for (int64_t i = 0; i < arrays.capacity; ++i)
        if (masks > 1 && (masks == 3 || below(2))) arrays.mask[i / 16] &= static_cast<uint16_t>(~(1u << i % 16));
    std::vector<aifw::Segment> views;
    for (size_t s = 0; s < segments.size(); ++s)
      views.push_back(segments[s].view(segments[s].capacity, largest[s], masks > 0));
    const int64_t eligible = aifw::eligible(views);
    const int64_t queries = 1 + below(below(3) ? 5 : 26);
    auto query = checks::allocate<float>(queries * dimensions);
    for (int64_t q = 0; q < queries; ++q) fill(query.get() + q * dimensions, dimensions, values);
    const int64_t k = eligible ? 1 + below(below(2) ? eligible : std::min<int64_t>(eligible, 10)) : 0;
    for (int level = 0; level < aifw::kLevels; ++level) {
      if (!aifw::level_usable(level)) continue;
      aifw::select(aifw::level_name(level));
      auto ids = checks::allocate<int64_t>(queries * k);
      auto scores = checks::allocate<double>(queries * k);
      aifw::search(views, query.get(), queries, dimensions, metric, k, 1 + static_cast<int>(below(3)), {}, ids.get(), scores.get());
      compare(segments, query.get(), queries, metric, k, ids.get(), scores.get());
      ++searches;
    }
  }

  int64_t below(int64_t limit) { return limit > 0 ? static_cast<int64_t>(random_() % static_cast<uint64_t>(limit)) : 0; }

 private:
  static constexpr int kValues = 9;

  void fill(float* row, int64_t dimensions, int values) {
    std::normal_distribution<float> normal;
    const int64_t hot = below(dimensions);
    const int kind = values == kValues - 1 ? static_cast<int>(below(kValues - 1)) : values;
    for (int64_t j = 0; j < dimensions; ++j) {
      switch (kind) {
        case 0: row[j] = normal(random_); break;
        case 1: row[j] = std::clamp(normal(random_) * 1e38f, -FLT_MAX, FLT_MAX); break;
        case 2: row[j] = normal(random_) * 1e-44f; break;
        case 3: row[j] = j == hot ? (below(2) ? 1.0f : -1.0f) : 0.0f; break;
        case 4: row[j] = static_cast<float>(below(3) - 1); break;
        case 5: row[j] = std::ldexp(normal(random_), static_cast<int>(below(200)) - 130); break;
        case 6: row[j] = below(4) ? 1.0f : std::nextafterf(1.0f, 2.0f); break;
        default: row[j] = 0.0f;
      }
    }
  }

  static void compare(const std::vector<Arrays>& segments, const float* queries, int64_t count, Metric metric, int64_t k,
                      const int64_t* ids, const double* scores) {
    if (!k) return;
    const int64_t dimensions = segments.front().dimensions;
    for (int64_t q = 0; q < count; ++q) {
      std::vector<float> padded(aifw::row_floats(dimensions));
      std::copy_n(queries + q * dimensions, dimensions, padded.begin());
      const double norm = aifw::exact_norm(padded.data(), static_cast<int64_t>(padded.size()));
      std::vector<std::pair<double, int64_t>> all;
      for (const Arrays& arrays : segments)
        for (int64_t i = 0; i < arrays.capacity; ++i)
          if (arrays.allowed(i)) all.emplace_back(checks::score(arrays, i, padded.data(), norm, metric), arrays.ids[i]);
      std::partial_sort(all.begin(), all.begin() + k, all.end(),
                        [metric](const auto& a, const auto& b) { return checks::better(metric, a, b); });
      for (int64_t i = 0; i < k; ++i)
        if (ids[q * k + i] != all[i].second || scores[q * k + i] != all[i].first)
          checks::fail("wrong at level " + std::string(aifw::active().name) + ", dimensions " + std::to_string(dimensions) +
                       ", metric " + std::to_string(metric) + ", k " + std::to_string(k) + ", place " + std::to_string(i));
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const int64_t rounds = argc > 2 ? std::strtoll(argv[2], nullptr, 10) : 1;
  Shapes shapes(seed);
  for (int64_t round = 0; round < rounds; ++round)
    for (int64_t dimensions = 1; dimensions <= 200; ++dimensions)
      for (const Metric metric : {aifw::kInnerProduct, aifw::kCosine, aifw::kSquaredDistance})
        for (const int64_t count : {shapes.below(3), 14 + shapes.below(5), shapes.below(201)}) shapes.run(dimensions, count, metric);
  // Longer than what one accumulation of the kernels may hold.
  for (const int64_t dimensions : {1024, 1033, 4100, 40000})
    for (const Metric metric : {aifw::kInnerProduct, aifw::kCosine, aifw::kSquaredDistance}) shapes.run(dimensions, 33, metric);
  std::printf("%lld searches\n", static_cast<long long>(shapes.searches));
}
