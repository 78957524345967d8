#include "compare.h"

#include "../runs.h"

namespace aifw {
namespace {

constexpr int kMaxBlocks = 12;
constexpr int kMaxRows = kMaxBlocks * static_cast<int>(kBlockRows);
constexpr int kMaxDimensions = 1088;
constexpr int kMaxRuns = kMaxDimensions / (4 * kStepsOfARun);
constexpr int kFunctions = 7;
constexpr int kShown = 2;  // differences of a function that are described; the rest are counted
constexpr int32_t kUntouched = 0x5a5a5a5a;
constexpr int kMaxGap = 64;  // bytes behind a block and behind its low planes that are nobody's
constexpr int kGuard = 64;   // bytes before and behind unpacked codes that must stay as they are
constexpr int kLimit = 127, kNarrowLimit = 63;  // largest code of a query

// Data lies at the end of its array, so that reading beyond it is noticed where the compiler checks addresses.
alignas(64) uint8_t block_bytes[kMaxBlocks * (kHeaderBytes + 8 * kMaxDimensions + kMaxGap)];
alignas(64) uint8_t low_bytes[kMaxBlocks * (sizeof(FineHeader) + 12 * kMaxDimensions + kMaxGap)];
alignas(64) uint8_t six_bytes[kMaxRows * kMaxDimensions];
alignas(64) int8_t query_bytes[kTileQueries * kMaxDimensions];
int32_t run_lengths[kMaxRuns];
int32_t run_centres[kTileQueries * kMaxRuns];
alignas(64) float vectors[2][kMaxDimensions];
float reaches[kMaxBlocks];
uint16_t masks[kMaxBlocks];
// What is written ends before something that must stay as it is.
Hit hits[2][kTileQueries][kMaxRows + 1];
int32_t counts[2][kTileQueries];
int32_t sums[2][kMaxRows + 1];
alignas(64) uint8_t unpacked[2][kGuard + kMaxRows * kMaxDimensions + kGuard];

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed) {}

  // Numerical Recipes' linear congruential generator; its upper half is what is used.
  uint32_t below(uint32_t limit) {
    uint32_t bits = 0;
    for (int half = 0; half < 2; ++half) {
      state_ = state_ * 1664525u + 1013904223u;
      bits = bits << 16 | state_ >> 16;
    }
    return static_cast<uint32_t>(uint64_t{bits} * limit >> 32);
  }
  int between(int first, int last) { return first + static_cast<int>(below(static_cast<uint32_t>(last - first + 1))); }
  bool one_in(uint32_t n) { return below(n) == 0; }
  float of(const float* values, uint32_t count) { return values[below(count)]; }

 private:
  uint32_t state_;
};

float from_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

uint32_t to_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

double magnitude(double x) { return x < 0 ? -x : x; }

const float kInfinity = __builtin_inff();
const float kExtreme[] = {0.0f,  -0.0f,  0x1p-149f, -0x1p-149f, 0x1p-126f, 3.4e38f,    -3.4e38f,
                          1e20f, 1e-20f, 0x1p-64f,  0x1p100f,   kInfinity, -kInfinity, __builtin_nanf("")};
constexpr uint32_t kExtremes = sizeof kExtreme / sizeof *kExtreme;
constexpr uint32_t kFinite = kExtremes - 3;

// A number of everyday size with all bits in use, so that rounding shows.
float ordinary(Random& random) {
  return from_bits(static_cast<uint32_t>(random.between(118, 132)) << 23 | random.below(1u << 23) |
                   random.below(2) << 31);
}

float drawn(Random& random, bool extreme) {
  return extreme && random.one_in(3) ? random.of(kExtreme, kExtremes) : ordinary(random);
}

uint16_t bfloat(float value) { return static_cast<uint16_t>(to_bits(value) >> 16); }
float widen(uint16_t bits) { return from_bits(static_cast<uint32_t>(bits) << 16); }

class Comparison {
 public:
  Comparison(const Kernels& tested, uint32_t seed, Print print) : tested_(tested), random_(seed), print_(print) {}

  void run_case() {
    make_case();
    for (int repeat = 0; repeat < 3; ++repeat) {
      make_range();
      for (int tile = 0; tile < 2; ++tile) {
        make_tile(false);
        check_filter();
      }
      make_six();
      make_tile(true);
      check_filter_six();
    }
    check_unpack();
    check_refine("refine", kScalar.refine, tested_.refine);
    check_refine("refine_six", kScalar.refine_six, tested_.refine_six);
    check_sums();
  }

  int report() {
    print_(tested_.name);
    print_number(": ", checks_);
    print_number(" checks, ", differences_);
    print_(" differences\n");
    return differences_;
  }

 private:
  void make_case() {
    extreme_ = random_.one_in(3);
    strained_ = random_.one_in(4);
    Segment& s = segment_;
    s.code_dimensions = 64 * random_.between(1, strained_ || random_.one_in(4) ? kMaxDimensions / 64 : 6);
    s.dimensions = s.code_dimensions - random_.between(0, 63);
    s.row_floats = (s.dimensions + 15) / 16 * 16;
    s.block_bytes = kHeaderBytes + 8 * s.code_dimensions + kMaxGap * random_.between(0, 1);
    const int64_t planes = kBlockRows * s.code_dimensions / 2;
    s.low_bytes = (planes + static_cast<int64_t>(sizeof(FineHeader)) + 4 * s.code_dimensions) / kBlockRows +
                  kMaxGap / kBlockRows * random_.between(0, 1);
    const int blocks = random_.between(1, kMaxBlocks);
    s.count = blocks * kBlockRows;
    uint8_t* codes = block_bytes + sizeof block_bytes - blocks * s.block_bytes;
    uint8_t* low = low_bytes + sizeof low_bytes - s.count * s.low_bytes;
    float* reach = reaches + kMaxBlocks - blocks;
    uint16_t* mask = masks + kMaxBlocks - blocks;
    fill(codes, blocks * s.block_bytes, 0xff);
    fill(low, s.count * s.low_bytes, 0xff);
    for (int b = 0; b < blocks; ++b) {
      BlockHeader header;
      FineHeader fine = {};
      for (int r = 0; r < kBlockRows; ++r) {
        header.scale[r] = bfloat(drawn(random_, extreme_));
        header.radius[r] = bfloat(drawn(random_, extreme_));
        header.bias[r] = drawn(random_, extreme_);
        fine.radius[r] = bfloat(drawn(random_, extreme_));
      }
      fine.reach = drawn(random_, extreme_);
      __builtin_memcpy(codes + b * s.block_bytes, &header, sizeof header);
      __builtin_memcpy(low + b * kBlockRows * s.low_bytes + planes, &fine, sizeof fine);
      reach[b] = drawn(random_, extreme_);
      mask[b] = static_cast<uint16_t>(random_.one_in(3) ? 0 : random_.one_in(3) ? 0xffff : random_.below(0x10000));
    }
    s.blocks = codes;
    s.low = low;
    s.reach = reach;
    s.mask = random_.one_in(2) ? mask : nullptr;
  }

  // Bits of `largest`: all, none, halves unlike, nearly all, or random.
  void fill(uint8_t* bytes, int64_t size, uint8_t largest) {
    const int kind = random_.between(0, strained_ ? 1 : 7);
    for (int64_t i = 0; i < size; ++i) {
      const uint32_t byte = kind == 0                          ? 0xff
                            : kind == 1 && !random_.one_in(40) ? 0xff
                            : kind == 2                        ? 0
                            : kind == 3                        ? 0xf0
                            : kind == 4                        ? 0x0f
                                                               : random_.below(256);
      bytes[i] = static_cast<uint8_t>(byte & largest);
    }
  }

  // `count` vectors of query codes; now and then, all along or for a while, the largest ones, for the sums that come
  // nearest to overflow.
  const int8_t* make_codes(int count, int limit) {
    const int64_t size = count * segment_.code_dimensions;
    int8_t* codes = query_bytes + sizeof query_bytes - size;
    const int kind = random_.between(0, strained_ ? 2 : 7);
    int run = 0, value = 0;
    for (int64_t i = 0; i < size; ++i) {
      if (kind == 2 && run-- == 0) {
        run = random_.between(0, 100);
        value = random_.one_in(2) ? limit : -limit;
      }
      codes[i] = static_cast<int8_t>(kind == 0   ? limit
                                     : kind == 1 ? -limit
                                     : kind == 2 ? value
                                     : kind == 3 ? (i & 1 ? limit : -limit)
                                     : kind == 4 ? (i & 4 ? limit : -limit)
                                                 : random_.between(-limit, limit));
    }
    return codes;
  }

  void make_range() {
    const int blocks = static_cast<int>(segment_.count / kBlockRows);
    first_ = random_.one_in(2) ? 0 : random_.between(0, blocks - 1);
    blocks_ = random_.one_in(2) ? blocks - first_ : random_.between(0, blocks - first_);
  }

  // What a table's tile that opens the range writes as codes of six bits.
  void unpack_by(const Kernels& table, uint8_t* codes) {
    Segment all = segment_;
    all.mask = nullptr;
    Tile tile = {};
    tile.queries = random_.between(1, tested_.tile_queries);
    tile.opens = 1;
    tile.codes = make_codes(tile.queries, 0);
    make_runs_of(tile);
    Hit* lists[kTileQueries];
    for (int u = 0; u < kTileQueries; ++u) {
      tile.threshold[u] = kInfinity;
      lists[u] = hits[0][u];
    }
    int32_t found[kTileQueries];
    table.filter_six(all, first_, blocks_, codes, tile, lists, found);
  }

  // Codes of six bits: those of the blocks, or others, among them all 63.
  void make_six() {
    const int64_t size = blocks_ * kBlockRows * segment_.code_dimensions;
    uint8_t* six = six_bytes + sizeof six_bytes - size;
    unpacked_ = random_.one_in(2);
    if (unpacked_) {
      unpack_by(kScalar, six);
    } else {
      fill(six, size, 63);
    }
    six_ = six;
  }

  void make_tile(bool six) {
    Tile& t = tile_;
    t.queries = six ? random_.between(1, tested_.tile_queries) : 1;
    t.biased = random_.between(0, 1);
    t.opens = six && unpacked_ ? random_.between(0, 1) : 0;
    t.closes = random_.between(0, 1);
    t.codes = make_codes(t.queries, six && tested_.narrow ? kNarrowLimit : kLimit);
    if (six) make_runs_of(t);
    for (int u = 0; u < t.queries; ++u) {
      // Now and then a number that is not exact as a float.
      t.offset[u] = centre(u, six ? 63 : 15);
      if (random_.one_in(6)) t.offset[u] = static_cast<int32_t>(random_.below(1u << 31)) - (1 << 30);
      t.scale[u] = drawn(random_, extreme_);
      t.norm[u] = drawn(random_, extreme_);
      t.error[u] = drawn(random_, extreme_);
      t.threshold[u] = make_threshold(u, six);
    }
  }

  // The lists end where their arrays do.
  void make_runs_of(Tile& tile) {
    const int64_t most = segment_.code_dimensions / (4 * kStepsOfARun);
    make_runs(tested_.narrow, tile, segment_.code_dimensions, run_lengths + kMaxRuns - most,
              run_centres + kTileQueries * kMaxRuns - tile.queries * most);
  }

  int query_code(int u, int64_t i) const { return tile_.codes[4 * (i / 4 * tile_.queries + u) + i % 4]; }

  int32_t centre(int u, int largest) const {
    int32_t sum = 0;
    for (int64_t i = 0; i < segment_.code_dimensions; ++i) sum += query_code(u, i);
    return largest * sum;
  }

  // Mostly a row's bound itself or a neighbour of it, where the last bit of every operation counts.
  float make_threshold(int u, bool six) {
    const Segment& s = segment_;
    const int kind = random_.between(0, 7);
    if (kind == 0) return random_.of(kExtreme, kExtremes);
    if (kind == 1 || !blocks_) return -kInfinity;
    const int64_t b = random_.between(0, blocks_ - 1);
    const int64_t block = first_ + b;
    const int row = random_.between(0, kBlockRows - 1);
    const uint8_t* bytes = s.blocks + block * s.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(bytes);
    const uint8_t* behind = s.low + kBlockRows * (block * s.low_bytes + s.code_dimensions / 2);
    const auto* fine = reinterpret_cast<const FineHeader*>(behind);
    int32_t dot = 0;
    for (int64_t i = 0; i < s.code_dimensions; ++i) {
      const uint8_t both = bytes[kHeaderBytes + 64 * (i / 8) + 4 * row + i % 4];
      const int four = i % 8 < 4 ? both & 15 : both >> 4;
      dot += (six ? six_[16 * (b * s.code_dimensions + i / 4 * 4) + 4 * row + i % 4] : four) * query_code(u, i);
    }
    const float middle = static_cast<float>(2 * dot - tile_.offset[u]) * (widen(header->scale[row]) * tile_.scale[u]);
    const float spread = widen(six ? fine->radius[row] : header->radius[row]) * tile_.norm[u] +
                         (six ? fine->reach : s.reach[block]) * tile_.error[u];
    float bound = middle + spread;
    if (tile_.biased) bound = bound + header->bias[row];
    return kind < 5 ? bound : from_bits(to_bits(bound) + static_cast<uint32_t>(random_.between(-1, 1)));
  }

  void clear_hits() {
    for (int k = 0; k < 2; ++k)
      for (int u = 0; u < kTileQueries; ++u) {
        for (Hit& hit : hits[k][u]) hit = Hit{kUntouched, kUntouched};
        counts[k][u] = kUntouched;
      }
  }

  // Where the list begins that has room for every row, and for no more.
  int list_start() const { return kMaxRows - blocks_ * static_cast<int>(kBlockRows); }

  const char* difference_of_hits(int u) const {
    if (counts[0][u] != counts[1][u]) return "number of hits";
    for (int i = 0; i <= kMaxRows; ++i) {
      const bool may_differ = u < tile_.queries && i >= list_start() + counts[0][u] && i < kMaxRows;
      if (may_differ) continue;
      if (hits[0][u][i].row != hits[1][u][i].row) return "row of a hit";
      if (hits[0][u][i].dot != hits[1][u][i].dot) return "dot of a hit";
    }
    return nullptr;
  }

  void check_filter() {
    clear_hits();
    const Kernels* tables[2] = {&kScalar, &tested_};
    for (int k = 0; k < 2; ++k)
      counts[k][0] = tables[k]->filter(segment_, first_, blocks_, tile_, hits[k][0] + list_start());
    check("filter", difference_of_hits(0), blocks_);
  }

  void check_filter_six() {
    clear_hits();
    const Kernels* tables[2] = {&kScalar, &tested_};
    for (int k = 0; k < 2; ++k) {
      Hit* lists[kTileQueries];
      for (int u = 0; u < kTileQueries; ++u) lists[u] = hits[k][u] + list_start();
      uint8_t* codes = tile_.opens ? unpacked[k] + kGuard : six_;
      tables[k]->filter_six(segment_, first_, blocks_, codes, tile_, lists, counts[k]);
    }
    for (int u = 0; u < kTileQueries; ++u) check("filter_six", difference_of_hits(u), blocks_);
  }

  void check_unpack() {
    const Kernels* tables[2] = {&kScalar, &tested_};
    const int64_t size = blocks_ * kBlockRows * segment_.code_dimensions;
    const int64_t start = kMaxRows * kMaxDimensions - size;
    for (int k = 0; k < 2; ++k) {
      __builtin_memset(unpacked[k] + start, kUntouched & 0xff, static_cast<uint64_t>(size + 2 * kGuard));
      unpack_by(*tables[k], unpacked[k] + start + kGuard);
    }
    const char* difference = nullptr;
    for (int64_t i = start; i < start + size + 2 * kGuard; ++i)
      if (unpacked[0][i] != unpacked[1][i]) difference = "code";
    check("unpack", difference, blocks_);
  }

  void check_refine(const char* name, decltype(Kernels::refine) scalar, decltype(Kernels::refine) tested) {
    const int64_t row0 = random_.between(0, static_cast<int>(segment_.count) - 1);
    const uint32_t share = static_cast<uint32_t>(random_.between(1, 20));
    const int8_t* query = make_codes(1, kLimit);
    Hit* list = hits[0][0];
    int32_t count = 0;
    for (int64_t row = 0; row < segment_.count - row0; ++row)
      if (random_.one_in(share)) list[count++] = Hit{static_cast<int32_t>(row), 0};
    for (int k = 0; k < 2; ++k) {
      for (int32_t& sum : sums[k]) sum = kUntouched;
      (k ? tested : scalar)(segment_, row0, query, list, count, sums[k] + kMaxRows - count);
    }
    const char* difference = nullptr;
    for (int i = 0; i <= kMaxRows; ++i)
      if (sums[0][i] != sums[1][i]) difference = "sum";
    check(name, difference, count);
  }

  // Small whole numbers add up exactly in any order. Otherwise each sum is off by at most as many roundings of the sum
  // of magnitudes as it has operations on the way of a term, differences being rounded, too (Higham, Accuracy and
  // Stability of Numerical Algorithms, section 3.1).
  void check_sums() {
    const int64_t floats = segment_.row_floats;
    const bool whole = random_.one_in(3);
    float* x = vectors[0] + kMaxDimensions - floats;
    float* y = vectors[1] + kMaxDimensions - floats;
    double products = 0;
    double squares = 0;
    for (int64_t i = 0; i < floats; ++i) {
      x[i] = component(whole);
      y[i] = component(whole);
      const double difference = static_cast<double>(x[i]) - y[i];
      products += magnitude(static_cast<double>(x[i]) * y[i]);
      squares += difference * difference;
    }
    const double roundings = whole ? 0 : 2.0 * (static_cast<double>(floats) + 4) * 0x1p-53;
    const double inner = tested_.inner_product(x, y, floats) - kScalar.inner_product(x, y, floats);
    const double squared = tested_.squared_distance(x, y, floats) - kScalar.squared_distance(x, y, floats);
    const int size = static_cast<int>(floats);
    check("inner_product", magnitude(inner) <= roundings * products ? nullptr : "value", size);
    check("squared_distance", magnitude(squared) <= roundings * squares ? nullptr : "value", size);
  }

  float component(bool whole) {
    if (whole) return static_cast<float>(random_.between(-1000, 1000));
    return extreme_ && random_.one_in(4) ? random_.of(kExtreme, kFinite) : ordinary(random_);
  }

  // Counts what was compared, and describes what differs unless that is null.
  void check(const char* function, const char* difference, int size) {
    ++checks_;
    if (!difference) return;
    ++differences_;
    if (shown(function)++ >= kShown) return;
    print_(tested_.name);
    print_(": ");
    print_(function);
    print_(": ");
    print_(difference);
    print_number(" differs with dimensions ", static_cast<int>(segment_.dimensions));
    print_number(", queries ", tile_.queries);
    print_number(", size ", size);
    print_number(", biased ", tile_.biased);
    print_(segment_.mask ? ", masked" : "");
    print_(extreme_ ? ", extreme values\n" : "\n");
  }

  int& shown(const char* function) {
    int at = 0;
    while (shown_[at].function && shown_[at].function != function && at < kFunctions - 1) ++at;
    shown_[at].function = function;
    return shown_[at].times;
  }

  void print_number(const char* before, int number) {
    char digits[12];
    char* at = digits + sizeof digits - 1;
    *at = 0;
    do *--at = static_cast<char>('0' + number % 10);
    while (number /= 10);
    print_(before);
    print_(at);
  }

  const Kernels& tested_;
  Random random_;
  Print print_;
  Segment segment_ = {};
  Tile tile_ = {};
  int first_ = 0;
  int blocks_ = 0;
  uint8_t* six_ = nullptr;
  bool unpacked_ = false;  // whether six_ is what the blocks say
  bool extreme_ = false;   // numbers that are huge, tiny, infinite or none
  bool strained_ = false;  // sums near the largest there are
  int checks_ = 0;
  int differences_ = 0;
  struct {
    const char* function;
    int times;
  } shown_[kFunctions] = {};
};

}  // namespace

int compare(const Kernels& tested, uint32_t seed, int rounds, Print print) {
  Comparison comparison(tested, seed, print);
  for (int round = 0; round < rounds; ++round) comparison.run_case();
  return comparison.report();
}

}  // namespace aifw
