// Searches while rows are added behind the published count, segments are appended, rows are removed and levels change. Meant to be
// compiled with -fsanitize=thread; each result is also held against the definition. Prints how many searches agreed.
#include <atomic>
#include <cmath>
#include <random>
#include <thread>

#include "arrays.h"

namespace {

using aifw::Metric;
using checks::Arrays;

constexpr int64_t kDimensions = 40;
constexpr int64_t kRows = 700;  // of a segment; no multiple of a block
constexpr int kSegments = 4;
constexpr int64_t kNone = -1;

// One segment that grows: rows below `count` are complete and do not change.
struct Growing {
  Growing() : arrays(kDimensions, kRows) {}
  Arrays arrays;
  std::atomic<int64_t> count{0};
  std::atomic<double> largest{0};
};

struct Shared {
  explicit Shared(Metric metric) : metric(metric) {}
  const Metric metric;
  std::unique_ptr<Growing> segments[kSegments];
  std::atomic<int> published{0};
  std::atomic<bool> grown{false};
  std::atomic<int64_t> rounds{0}, searches{0};

  // Until searches have seen what is there now.
  void wait(int64_t more) const {
    for (const int64_t until = rounds.load() + more; rounds.load() < until && !grown.load();) std::this_thread::yield();
  }
};

void grow(Shared& shared) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  for (int s = 0; s < kSegments; ++s) {
    shared.segments[s] = std::make_unique<Growing>();
    Growing& segment = *shared.segments[s];
    shared.published.store(s + 1, std::memory_order_release);
    for (int64_t first = 0; first < kRows;) {
      const int64_t last = std::min<int64_t>(kRows, first + 1 + static_cast<int64_t>(random() % 50));
      for (int64_t i = first; i < last; ++i) {
        for (int64_t j = 0; j < kDimensions; ++j) segment.arrays.row(i)[j] = normal(random);
        segment.arrays.ids[i] = s * kRows + i;
      }
#ifdef PUBLISH_EARLY  // a mistake, for a test that shows it would be seen
      segment.count.store(last, std::memory_order_release);
      shared.wait(4);
#endif
      const double norm = segment.arrays.encode(shared.metric, first, last, 1 + static_cast<int>(random() % 3));
      segment.largest.store(std::max(segment.largest.load(), norm));
      segment.count.store(last, std::memory_order_release);
      first = last;
      shared.wait(4);
    }
  }
  shared.grown.store(true);
}

void remove_rows(Shared& shared) {
  std::mt19937_64 random(2);
  while (!shared.grown.load()) {
    const int segments = shared.published.load(std::memory_order_acquire);
    if (!segments) continue;
    Growing& segment = *shared.segments[random() % segments];
    const int64_t count = segment.count.load(std::memory_order_acquire);
    if (!count) continue;
    shared.wait(1);
    const int64_t row = static_cast<int64_t>(random() % count);
    const auto others = static_cast<uint16_t>(~(1u << row % aifw::kBlockRows));
    __atomic_fetch_and(&segment.arrays.mask[row / aifw::kBlockRows], others, __ATOMIC_RELAXED);
  }
}

void change_levels(Shared& shared) {
  for (int level = 0; !shared.grown.load(); level = (level + 1) % aifw::kLevels) {
    aifw::select(aifw::level_name(level));
    std::this_thread::yield();
  }
}

bool is_removed(const Arrays& arrays, int64_t row) {
  return !(__atomic_load_n(&arrays.mask[row / aifw::kBlockRows], __ATOMIC_RELAXED) >> row % aifw::kBlockRows & 1);
}

// Rows that are there from before the search until after it must be found if they are good enough; nothing else but rows that were
// removed meanwhile may be.
void check(const Shared& shared, const std::vector<aifw::Segment>& views, const float* query, int64_t k, const int64_t* ids,
           const double* scores) {
  std::vector<float> padded(aifw::row_floats(kDimensions));
  std::copy_n(query, kDimensions, padded.begin());
  const double norm = aifw::exact_norm(padded.data(), static_cast<int64_t>(padded.size()));
  int64_t found = 0;
  while (found < k && ids[found] != kNone) ++found;
  for (int64_t i = 0; i < found; ++i) {
    const int64_t s = ids[i] / kRows, row = ids[i] % kRows;
    if (s >= static_cast<int64_t>(views.size()) || row >= views[s].count) checks::fail("a row was found that was not published");
    if (scores[i] != checks::score(shared.segments[s]->arrays, row, padded.data(), norm, shared.metric)) checks::fail("wrong score");
    if (i && !checks::better(shared.metric, {scores[i - 1], ids[i - 1]}, {scores[i], ids[i]})) checks::fail("wrong order");
  }
  for (size_t s = 0; s < views.size(); ++s) {
    const Arrays& arrays = shared.segments[s]->arrays;
    for (int64_t row = 0; row < views[s].count; ++row) {
      const int64_t id = arrays.ids[row];
      if (is_removed(arrays, row) || std::find(ids, ids + found, id) != ids + found) continue;
      const double score = checks::score(arrays, row, padded.data(), norm, shared.metric);
      if (found < k || checks::better(shared.metric, {score, id}, {scores[k - 1], ids[k - 1]})) checks::fail("a row was missed");
    }
  }
}

void search(Shared& shared, int seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (bool last = false; !last;) {
    last = shared.grown.load();
    shared.rounds.fetch_add(1);
    std::vector<aifw::Segment> views;
    const int segments = shared.published.load(std::memory_order_acquire);
    for (int s = 0; s < segments; ++s) {
      const Growing& segment = *shared.segments[s];
      const int64_t count = segment.count.load(std::memory_order_acquire);
      if (count) views.push_back(segment.arrays.view(count, segment.largest.load(), true));
    }
    const int64_t k = std::min<int64_t>(1 + static_cast<int64_t>(random() % 20), aifw::eligible(views));
    if (!k) continue;
    const int64_t queries = 1 + static_cast<int64_t>(random() % 25);
    std::vector<float> query(queries * kDimensions);
    for (float& each : query) each = normal(random);
    std::vector<int64_t> ids(queries * k, kNone);
    std::vector<double> scores(queries * k);
    aifw::search(views, query.data(), queries, kDimensions, shared.metric, k, 1 + static_cast<int>(random() % 3), {}, ids.data(),
                 scores.data());
    for (int64_t q = 0; q < queries; ++q) check(shared, views, &query[q * kDimensions], k, &ids[q * k], &scores[q * k]);
    shared.searches.fetch_add(1);
  }
}

}  // namespace

int main() {
  int64_t searches = 0;
  for (const Metric metric : {aifw::kInnerProduct, aifw::kCosine, aifw::kSquaredDistance}) {
    Shared shared(metric);
    std::vector<std::thread> threads;
    threads.emplace_back(grow, std::ref(shared));
    threads.emplace_back(remove_rows, std::ref(shared));
    threads.emplace_back(change_levels, std::ref(shared));
    for (int seed = 3; seed < 6; ++seed) threads.emplace_back(search, std::ref(shared), seed);
    for (std::thread& thread : threads) thread.join();
    searches += shared.searches.load();
  }
  std::printf("%lld searches\n", static_cast<long long>(searches));
}
