#include "compare.h"

namespace aifw {
namespace {

constexpr int kMaxBlocks = 12;
constexpr int kMaxRows = kMaxBlocks * static_cast<int>(kBlockRows);
constexpr int kMaxDimensions = 1088;
constexpr int kShown = 8;  // differences described; the rest are counted
constexpr int32_t kUntouched = 0x5a5a5a5a;

// Data lies at the end of its array, so that reading beyond it is noticed where the compiler checks addresses.
alignas(64) uint8_t block_bytes[kMaxBlocks * (kHeaderBytes + 8 * kMaxDimensions)];
alignas(64) uint8_t low_bytes[kMaxRows * kMaxDimensions / 2];
alignas(64) int8_t query_bytes[kTileQueries * kMaxDimensions];
alignas(64) float vectors[2][kMaxDimensions];
float reaches[kMaxBlocks];
uint16_t masks[kMaxBlocks];
Hit hits[2][kTileQueries][kMaxRows + 1];  // one more than may be written
int32_t counts[2][kTileQueries];
int32_t sums[2][kMaxRows + 1];

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
      make_tile();
      check_filter();
    }
    check_refine();
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
    Segment& s = segment_;
    s.code_dimensions = 64 * (random_.one_in(4) ? random_.between(1, kMaxDimensions / 64) : random_.between(1, 6));
    s.dimensions = s.code_dimensions - random_.between(0, 63);
    s.row_floats = (s.dimensions + 15) / 16 * 16;
    s.block_bytes = kHeaderBytes + 8 * s.code_dimensions;
    const int blocks = random_.between(1, kMaxBlocks);
    s.count = blocks * kBlockRows;
    uint8_t* codes = block_bytes + sizeof block_bytes - blocks * s.block_bytes;
    uint8_t* low = low_bytes + sizeof low_bytes - s.count * s.code_dimensions / 2;
    float* reach = reaches + kMaxBlocks - blocks;
    uint16_t* mask = masks + kMaxBlocks - blocks;
    const int fill = random_.between(0, 7);  // all largest, all zero, halves unlike, or random
    const auto code = [&]() -> uint8_t {
      return fill == 0 ? 0xff : fill == 1 ? 0 : fill == 2 ? 0xf0 : fill == 3 ? 0x0f : uint8_t(random_.below(256));
    };
    for (int b = 0; b < blocks; ++b) {
      uint8_t* block = codes + b * s.block_bytes;
      BlockHeader header;
      for (int r = 0; r < kBlockRows; ++r) {
        header.scale[r] = bfloat(drawn(random_, extreme_));
        header.radius[r] = bfloat(drawn(random_, extreme_));
        header.bias[r] = drawn(random_, extreme_);
      }
      __builtin_memcpy(block, &header, sizeof header);
      for (int64_t i = kHeaderBytes; i < s.block_bytes; ++i) block[i] = code();
      reach[b] = drawn(random_, extreme_);
      mask[b] = static_cast<uint16_t>(random_.one_in(3) ? 0 : random_.one_in(3) ? 0xffff : random_.below(0x10000));
    }
    for (int64_t i = 0; i < s.count * s.code_dimensions / 2; ++i) low[i] = code();
    s.blocks = codes;
    s.low = low;
    s.reach = reach;
    s.mask = random_.one_in(2) ? mask : nullptr;
  }

  // `count` vectors of query codes; now and then the largest ones, for the sums that come nearest to overflow.
  const int8_t* make_codes(int count) {
    const int64_t size = count * segment_.code_dimensions;
    int8_t* codes = query_bytes + sizeof query_bytes - size;
    const int fill = random_.between(0, 7);
    for (int64_t i = 0; i < size; ++i)
      codes[i] = static_cast<int8_t>(fill == 0   ? 127
                                     : fill == 1 ? -127
                                     : fill == 2 ? (i & 1 ? 127 : -127)
                                     : fill == 3 ? (i & 4 ? 127 : -127)
                                                 : random_.between(-127, 127));
    return codes;
  }

  void make_tile() {
    const int blocks = static_cast<int>(segment_.count / kBlockRows);
    first_ = random_.one_in(2) ? 0 : random_.between(0, blocks - 1);
    blocks_ = random_.one_in(2) ? blocks - first_ : random_.between(0, blocks - first_);
    Tile& t = tile_;
    t.queries = random_.between(1, kTileQueries);
    t.biased = random_.between(0, 1);
    t.codes = make_codes(t.queries);
    for (int u = 0; u < t.queries; ++u) {
      t.offset[u] = 0;
      for (int64_t g = 0; g < segment_.code_dimensions / 8; ++g)
        for (int j = 0; j < 8; ++j) t.offset[u] += 15 * t.codes[8 * (g * t.queries + u) + j];
      t.scale[u] = drawn(random_, extreme_);
      t.norm[u] = drawn(random_, extreme_);
      t.error[u] = drawn(random_, extreme_);
      t.threshold[u] = make_threshold(u);
    }
  }

  // Mostly a row's bound itself or a neighbour of it, where the last bit of every operation counts.
  float make_threshold(int u) {
    const int kind = random_.between(0, 7);
    if (kind == 0) return random_.of(kExtreme, kExtremes);
    if (kind == 1) return -kInfinity;
    const int64_t block = first_ + random_.between(0, blocks_ ? blocks_ - 1 : 0);
    const int row = random_.between(0, kBlockRows - 1);
    const uint8_t* bytes = segment_.blocks + block * segment_.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(bytes);
    int32_t dot = 0;
    for (int64_t i = 0; i < segment_.code_dimensions; ++i) {
      const uint8_t both = bytes[kHeaderBytes + 64 * (i / 8) + 4 * row + i % 4];
      dot += (i % 8 < 4 ? both & 15 : both >> 4) * tile_.codes[8 * (i / 8 * tile_.queries + u) + i % 8];
    }
    const float middle = static_cast<float>(2 * dot - tile_.offset[u]) * (widen(header->scale[row]) * tile_.scale[u]);
    const float spread = widen(header->radius[row]) * tile_.norm[u] + segment_.reach[block] * tile_.error[u];
    float bound = middle + spread;
    if (tile_.biased) bound = bound + header->bias[row];
    return kind < 5 ? bound : from_bits(to_bits(bound) + static_cast<uint32_t>(random_.between(-1, 1)));
  }

  void check_filter() {
    const int rows = blocks_ * static_cast<int>(kBlockRows);
    const Kernels* tables[2] = {&kScalar, &tested_};
    for (int k = 0; k < 2; ++k) {
      Hit* lists[kTileQueries];
      for (int u = 0; u < kTileQueries; ++u) {
        lists[u] = hits[k][u] + kMaxRows - rows;
        for (Hit& hit : hits[k][u]) hit = Hit{kUntouched, kUntouched};
        counts[k][u] = kUntouched;
      }
      tables[k]->filter(segment_, first_, blocks_, tile_, lists, counts[k]);
    }
    for (int u = 0; u < kTileQueries; ++u) {
      const char* difference = counts[0][u] == counts[1][u] ? nullptr : "number of hits";
      for (int i = 0; i <= kMaxRows; ++i) {
        const bool may_differ = u < tile_.queries && i >= kMaxRows - rows + counts[0][u] && i < kMaxRows;
        if (difference || may_differ) continue;
        if (hits[0][u][i].row != hits[1][u][i].row) difference = "row of a hit";
        if (hits[0][u][i].dot != hits[1][u][i].dot) difference = "dot of a hit";
      }
      check(!difference, "filter", difference, tile_.queries, blocks_);
    }
  }

  void check_refine() {
    const int blocks = static_cast<int>(segment_.count / kBlockRows);
    const int64_t row0 = kBlockRows * random_.between(0, blocks - 1);
    const uint32_t share = static_cast<uint32_t>(random_.between(1, 20));
    const int8_t* query = make_codes(1);
    Hit* list = hits[0][0];
    int32_t count = 0;
    for (int64_t row = 0; row < segment_.count - row0; ++row)
      if (random_.one_in(share)) list[count++] = Hit{static_cast<int32_t>(row), 0};
    const Kernels* tables[2] = {&kScalar, &tested_};
    for (int k = 0; k < 2; ++k) {
      for (int32_t& sum : sums[k]) sum = kUntouched;
      tables[k]->refine(segment_, row0, query, list, count, sums[k] + kMaxRows - count);
    }
    const char* difference = nullptr;
    for (int i = 0; i <= kMaxRows; ++i)
      if (sums[0][i] != sums[1][i]) difference = "sum";
    check(!difference, "refine", difference, 1, count);
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
    check(magnitude(inner) <= roundings * products, "inner_product", "value", 1, static_cast<int>(floats));
    check(magnitude(squared) <= roundings * squares, "squared_distance", "value", 1, static_cast<int>(floats));
  }

  float component(bool whole) {
    if (whole) return static_cast<float>(random_.between(-1000, 1000));
    return extreme_ && random_.one_in(4) ? random_.of(kExtreme, kFinite) : ordinary(random_);
  }

  void check(bool same, const char* function, const char* difference, int queries, int size) {
    ++checks_;
    if (same) return;
    if (differences_++ >= kShown) return;
    print_(tested_.name);
    print_(": ");
    print_(function);
    print_(": ");
    print_(difference);
    print_number(" differs with dimensions ", static_cast<int>(segment_.dimensions));
    print_number(", queries ", queries);
    print_number(", size ", size);
    print_number(", biased ", tile_.biased);
    print_(segment_.mask ? ", masked" : "");
    print_(extreme_ ? ", extreme values\n" : "\n");
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
  bool extreme_ = false;
  int checks_ = 0;
  int differences_ = 0;
};

}  // namespace

int compare(const Kernels& tested, uint32_t seed, int rounds, Print print) {
  Comparison comparison(tested, seed, print);
  for (int round = 0; round < rounds; ++round) comparison.run_case();
  return comparison.report();
}

}  // namespace aifw
