// Filter, refine, score, score exactly: each step reads more of fewer rows.
#include "search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "bounds.h"
#include "candidates.h"
#include "dispatch.h"
#include "query.h"
#include "runs.h"
#include "threads.h"

namespace aifw {
namespace {

constexpr int64_t kChunkBlocks = 64;
constexpr int64_t kChunkRows = kChunkBlocks * kBlockRows;
// Unpacked codes and low planes of so many blocks fit a second-level cache at common dimensions.
constexpr int64_t kUnpackedBlocks = 16;
constexpr int64_t kPartsPerThread = 4;
// A thread looks for no more results than this at a time, or those of one tile: while it does, each takes several times the memory it
// takes in the answer.
constexpr int64_t kResultsAtOnce = int64_t{1} << 21;
// One query reads more than it computes: with four bits it reads least, unless they leave too many rows to be refined. Then it
// goes on with six for so many blocks, and twice as many each time that four still does no better. More queries share what is read.
constexpr int64_t kBlocksOfSix = 64;
constexpr int64_t kShareForSix = 4;
// Query codes are at most this in size, and where products of six bits are summed in 16 at most that.
constexpr int kQueryLevels = 127;
constexpr int kNarrowQueryLevels = 63;
constexpr size_t kCacheLine = 64;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

float round_down(double value) {
  if (value > std::numeric_limits<float>::max()) return std::numeric_limits<float>::max();
  const float nearest = static_cast<float>(value);
  return nearest > value ? std::nextafterf(nearest, -std::numeric_limits<float>::infinity()) : nearest;
}

bool may_be_found(const Segment& segment, int64_t row) {
  if (!segment.mask) return true;
  return __atomic_load_n(segment.mask + row / kBlockRows, __ATOMIC_RELAXED) >> row % kBlockRows & 1;
}

// Up to `tile_queries` queries side by side, as the filter reads them. The tile points into the lists, which stay where they are when
// it moves.
struct PackedTile {
  PackedTile() = default;
  PackedTile(PackedTile&&) = default;
  PackedTile& operator=(PackedTile&&) = default;

  Tile tile = {};
  std::vector<int8_t> codes;
  std::vector<int32_t> runs, centres;
};

// What every task of one search shares.
struct Plan {
  const std::vector<Segment>& segments;
  const Kernels& kernels;
  Metric metric;
  int64_t k;
  std::vector<Query> queries;  // coded for six bits
  std::vector<PackedTile> tiles;
  std::vector<Query> alone;  // a query that has no others beside it, coded for four bits
  std::vector<PackedTile> tile_alone;
  std::vector<Least> least;

  int64_t tile_queries() const { return kernels.tile_queries; }

  bool filters(const Segment& segment, const Query& query) const {
    if (metric == kCosine) return true;
    return query.coded && segment.largest < (metric == kSquaredDistance ? 0x1p60 : 0x1p100);
  }
};

PackedTile pack(const Kernels& kernels, const std::vector<Query>& queries, size_t first, Metric metric, bool six) {
  PackedTile packed;
  Tile& tile = packed.tile;
  tile.queries = static_cast<int32_t>(std::min<size_t>(kernels.tile_queries, queries.size() - first));
  tile.biased = metric == kSquaredDistance;
  const size_t groups = queries[first].codes.size() / 4;
  packed.codes.resize(4 * groups * tile.queries);
  for (int32_t u = 0; u < tile.queries; ++u) {
    const Query& query = queries[first + u];
    tile.offset[u] = query.tile_offset;
    tile.scale[u] = query.tile_scale;
    tile.norm[u] = query.tile_norm;
    tile.error[u] = query.tile_error;
    for (size_t g = 0; g < groups; ++g)
      std::memcpy(&packed.codes[4 * (g * tile.queries + u)], &query.codes[4 * g], 4);
  }
  tile.codes = packed.codes.data();
  if (!six) return packed;
  packed.runs.resize(groups / kStepsOfARun);
  packed.centres.resize(packed.runs.size() * tile.queries);
  make_runs(kernels.narrow, tile, static_cast<int64_t>(4 * groups), packed.runs.data(), packed.centres.data());
  return packed;
}

// Rows of a segment, as a range of blocks; the rows behind the last block belong to the range that ends there.
struct Part {
  int32_t segment;
  int64_t first, last;
  bool with_rest;
};

// What a row of a segment must reach to be worth a closer look for one query.
struct Bar {
  bool filtered = false;  // else each row is scored from its floats, and no threshold is ever reached
  double least = -kInfinity;
  float threshold = -std::numeric_limits<float>::infinity();

  void raise(const Plan& plan, size_t index) {
    const double now = plan.least[index].now();
    if (!filtered) threshold = std::numeric_limits<float>::infinity();
    if (!filtered || now == least) return;
    least = now;
    const Query& query = plan.queries[index];
    // |x - q|^2 = |q|^2 - 2 (x q - |x|^2 / 2)
    const double square = query.norm * query.norm;
    threshold = round_down(plan.metric == kSquaredDistance ? (square + least) / 2 - 0x1p-48 * (square - least)
                                                           : least / query.unit);
  }
};

// One task: some queries against some parts.
class Scan {
 public:
  Scan(const Plan& plan, size_t first_query, size_t last_query, std::vector<Candidates>& candidates)
      : plan_(plan), first_(first_query), last_(last_query), candidates_(candidates) {
    for (auto& hits : hits_) hits.resize(kUnpackedBlocks * kBlockRows);
    hits_[0].resize(kChunkRows);
    sums_.resize(kChunkRows);
    found_.resize(kChunkRows);
  }

  void run(const Part& part) {
    const Segment& segment = plan_.segments[part.segment];
    bars_.assign(last_ - first_, Bar{});
    for (size_t q = first_; q < last_; ++q) bars_[q - first_].filtered = plan_.filters(segment, plan_.queries[q]);
    for (int64_t block = part.first; block < part.last;) {
      six_ = plan_.alone.empty() || blocks_of_six_ > 0;
      const int64_t blocks = std::min(six_ ? kUnpackedBlocks : kChunkBlocks, part.last - block);
      blocks_of_six_ -= blocks;
      chunk(part.segment, block, blocks);
      block += blocks;
    }
    if (!part.with_rest) return;
    for (int64_t row = segment.count / kBlockRows * kBlockRows; row < segment.count; ++row)
      for (size_t q = first_; q < last_; ++q)
        if (may_be_found(segment, row)) candidates_[q - first_].score(part.segment, row);
  }

 private:
  struct Found {
    double estimate, upper;
    int32_t row;
  };

  void chunk(int32_t index, int64_t block, int64_t blocks) {
    const Segment& segment = plan_.segments[index];
    if (six_) codes_.resize(blocks * kBlockRows * segment.code_dimensions + kCacheLine);
    for (size_t q = first_; q < last_; q += plan_.tile_queries()) {
      const PackedTile& packed = six_ ? plan_.tiles[q / plan_.tile_queries()] : plan_.tile_alone[0];
      Tile tile = packed.tile;
      tile.opens = q == first_;
      tile.closes = q + tile.queries == last_;
      for (int32_t u = 0; u < tile.queries; ++u) {
        Bar& bar = bars_[q + u - first_];
        bar.raise(plan_, q + u);
        tile.threshold[u] = bar.threshold;
      }
      int32_t counts[kTileQueries] = {};
      Hit* hits[kTileQueries];
      for (int u = 0; u < kTileQueries; ++u) hits[u] = hits_[u].data();
      if (six_) {
        plan_.kernels.filter_six(segment, block, blocks, unpacked(), tile, hits, counts);
      } else if (bars_[0].filtered) {
        counts[0] = plan_.kernels.filter(segment, block, blocks, tile, hits[0]);
        const bool too_many = bars_[0].least > -kInfinity && counts[0] > blocks * kBlockRows / kShareForSix;
        blocks_of_six_ = too_many ? next_of_six_ : 0;
        next_of_six_ = too_many ? 2 * next_of_six_ : kBlocksOfSix;
      }
      for (int32_t u = 0; u < tile.queries; ++u) {
        Candidates& candidates = candidates_[q + u - first_];
        candidates.statistics.rows += blocks * kBlockRows;
        if (bars_[q + u - first_].filtered) {
          refine(index, block * kBlockRows, six_ ? plan_.queries[q + u] : plan_.alone[0], hits[u], counts[u], candidates);
        } else {
          for (int64_t row = block * kBlockRows; row < (block + blocks) * kBlockRows; ++row)
            if (may_be_found(segment, row)) candidates.score(index, row);
        }
      }
    }
  }

  // Room for unpacked codes, from the first cache line on.
  uint8_t* unpacked() {
    void* at = codes_.data();
    size_t space = codes_.size();
    return static_cast<uint8_t*>(std::align(kCacheLine, 1, at, space));
  }

  void refine(int32_t index, int64_t row0, const Query& query, const Hit* hits, int32_t count, Candidates& candidates) {
    if (!count) return;
    const Segment& segment = plan_.segments[index];
    const auto kernel = six_ ? plan_.kernels.refine_six : plan_.kernels.refine;
    kernel(segment, row0, query.codes.data(), hits, count, sums_.data());
    candidates.statistics.refined += count;
    int32_t kept = 0;
    for (int32_t i = 0; i < count; ++i) {
      const Found found = bound(segment, row0, query, hits[i], sums_[i]);
      found_[kept] = found;
      kept += !(found.upper < candidates.least());
    }
    if (candidates.least() == -kInfinity) {
      // Nothing to measure against yet: the rows that look best come first.
      const int32_t best = static_cast<int32_t>(std::min<int64_t>(kept, plan_.k));
      std::partial_sort(found_.begin(), found_.begin() + best, found_.begin() + kept,
                        [](const Found& a, const Found& b) { return a.estimate > b.estimate; });
      for (int32_t i = 0; i < best; ++i) candidates.score(index, row0 + found_[i].row);
      for (int32_t i = best; i < kept; ++i) enter(index, row0, found_[i], candidates);
    } else {
      for (int32_t i = 0; i < kept; ++i) enter(index, row0, found_[i], candidates);
    }
  }

  // A row that looks good enough raises the bar for all later ones, so it is scored at once.
  void enter(int32_t index, int64_t row0, const Found& found, Candidates& candidates) {
    if (found.estimate >= candidates.least())
      candidates.score(index, row0 + found.row);
    else
      candidates.add(index, row0 + found.row, found.upper);
  }

  Found bound(const Segment& segment, int64_t row0, const Query& query, const Hit& hit, int32_t sum) const {
    const int64_t row = row0 + hit.row, block = row / kBlockRows, lane = row % kBlockRows;
    const auto* header = reinterpret_cast<const BlockHeader*>(segment.blocks + block * segment.block_bytes);
    const double scale = bfloat_value(header->scale[lane]) * query.scale;
    // The whole code is 16 * code + low code, or 4 * six bits + the last two, and stands for scale / 16 times itself less 127.5.
    const double middle = scale / 32 * ((six_ ? 8.0 : 32.0) * hit.dot + 2.0 * sum - 255.0 * query.code_sum);
    const double fine = segment.fine[row];
    const double spread = fine * query.reach + (segment.reach[block] + bfloat_value(header->radius[lane]) + fine) * query.error;
    const double rounding = 0x1p-48 * (std::fabs(middle) + spread) + 0x1p-200;
    if (plan_.metric != kSquaredDistance)
      return {middle * query.unit, (middle + spread + rounding) * query.unit, hit.row};
    const double square = query.norm * query.norm;
    const double bias = header->bias[lane];
    return {2 * (middle + bias) - square,
            2 * (middle + spread + bias) - square + 2 * rounding + 0x1p-48 * (square - bias), hit.row};
  }

  const Plan& plan_;
  size_t first_, last_;
  std::vector<Candidates>& candidates_;
  std::vector<Bar> bars_;
  bool six_ = true;             // whether this chunk begins with six bits
  int64_t blocks_of_six_ = 0;   // a lone query begins with six bits for so many more
  int64_t next_of_six_ = kBlocksOfSix;
  std::vector<Hit> hits_[kTileQueries];
  std::vector<uint8_t> codes_;
  std::vector<int32_t> sums_;
  std::vector<Found> found_;
};

// All rows, in parts of about the same number of blocks.
std::vector<Part> divide(const std::vector<Segment>& segments, int64_t parts) {
  int64_t blocks = 0;
  for (const Segment& segment : segments) blocks += segment.count / kBlockRows;
  const int64_t size = std::max<int64_t>((blocks + parts - 1) / parts, kChunkBlocks);
  std::vector<Part> found;
  for (size_t s = 0; s < segments.size(); ++s) {
    const int64_t last = segments[s].count / kBlockRows;
    if (!last) found.push_back({static_cast<int32_t>(s), 0, 0, true});
    for (int64_t block = 0; block < last; block += size) {
      const int64_t end = std::min(last, block + size);
      found.push_back({static_cast<int32_t>(s), block, end, end == last});
    }
  }
  return found;
}

}  // namespace

int64_t eligible(const std::vector<Segment>& segments) {
  int64_t rows = 0;
  for (const Segment& segment : segments) {
    if (!segment.mask) {
      rows += segment.count;
      continue;
    }
    for (int64_t block = 0; block * kBlockRows < segment.count; ++block) {
      uint32_t bits = __atomic_load_n(segment.mask + block, __ATOMIC_RELAXED);
      const int64_t here = std::min(kBlockRows, segment.count - block * kBlockRows);
      bits &= (uint32_t{1} << here) - 1;
      rows += __builtin_popcount(bits);
    }
  }
  return rows;
}

Statistics search(const std::vector<Segment>& segments, const float* queries, int64_t count, int64_t dimensions, Metric metric,
                  int64_t k, int threads, const std::vector<int>& processors, int64_t* ids, double* scores) {
  Statistics statistics;
  if (!count || !k) return statistics;
  Plan plan{segments, active(), metric, k, {}, {}, {}, {}, {}};
  const int64_t tile_queries = plan.tile_queries();
  const int levels = plan.kernels.narrow ? kNarrowQueryLevels : kQueryLevels;
  plan.queries.resize(count);
  plan.least = std::vector<Least>(count);
  const int64_t tiles = (count + tile_queries - 1) / tile_queries;
  plan.tiles.resize(tiles);
  run_parallel(threads, processors, (tiles + 15) / 16, [&](int64_t task) {
    for (int64_t t = 16 * task; t < std::min(tiles, 16 * task + 16); ++t) {
      for (int64_t q = t * tile_queries; q < std::min(count, (t + 1) * tile_queries); ++q)
        plan.queries[q] = prepare(queries + q * dimensions, dimensions, metric, true, levels);
    }
  });
  for (int64_t t = 0; t < tiles; ++t) plan.tiles[t] = pack(plan.kernels, plan.queries, t * tile_queries, metric, true);
  if (count == 1) {
    run_parallel(1, {}, 1, [&](int64_t) { plan.alone = {prepare(queries, dimensions, metric, false, kQueryLevels)}; });
    plan.tile_alone.push_back(pack(plan.kernels, plan.alone, 0, metric, false));
  }

  // With many queries each thread takes some of them, with few each takes some of the rows.
  const bool by_query = threads > 1 && tiles / 2 >= threads;
  const bool by_rows = threads > 1 && !by_query;
  const int64_t tiles_at_once = std::max<int64_t>(kResultsAtOnce / k / tile_queries, 1);
  const int64_t needed = (tiles + tiles_at_once - 1) / tiles_at_once;
  const int64_t groups = by_rows ? 1 : std::max(by_query ? 2 * int64_t{threads} : 1, needed);
  const std::vector<Part> parts = divide(segments, by_rows ? kPartsPerThread * threads : 1);
  const int64_t row_tasks = by_rows ? static_cast<int64_t>(parts.size()) : 1;

  std::vector<std::vector<Candidates>> candidates(groups * row_tasks);
  const auto group_begin = [&](int64_t g) {
    return std::min(count, (g * (tiles / groups) + std::min(g, tiles % groups)) * tile_queries);
  };
  const auto deliver = [&](int64_t q, Candidates& best) {
    best.finish();
    int64_t at = q * k;
    for (const Candidate& candidate : best.best()) {
      ids[at] = candidate.id;
      scores[at++] = candidate.score;
    }
    best.clear();
    plan.least[q].clear();
  };
  run_parallel(threads, processors, groups * row_tasks, [&](int64_t task) {
    const int64_t group = task / row_tasks, first = group_begin(group), last = group_begin(group + 1);
    std::vector<Candidates>& mine = candidates[task];
    mine.reserve(last - first);
    for (int64_t q = first; q < last; ++q)
      mine.emplace_back(plan.queries[q], segments, plan.kernels, metric, k, plan.least[q]);
    if (first == last) return;
    Scan scan(plan, first, last, mine);
    if (row_tasks > 1) {
      scan.run(parts[task % row_tasks]);
      return;
    }
    for (const Part& part : parts) scan.run(part);
    for (int64_t q = first; q < last; ++q) deliver(q, mine[q - first]);
  });
  if (row_tasks > 1)
    run_parallel(threads, processors, count, [&](int64_t q) {
      for (int64_t task = 1; task < row_tasks; ++task) candidates[0][q].take(candidates[task][q]);
      deliver(q, candidates[0][q]);
    });
  for (const auto& group : candidates)
    for (const Candidates& each : group) {
      statistics.rows += each.statistics.rows;
      statistics.refined += each.statistics.refined;
      statistics.scored += each.statistics.scored;
      statistics.exact += each.statistics.exact;
      statistics.summed += each.statistics.summed;
    }
  return statistics;
}

}  // namespace aifw
