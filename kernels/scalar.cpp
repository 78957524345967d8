// For any processor, and the reading of what the other files must compute.
#include "blocks.h"
#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::FineHeader;
using aifw::Hit;
using aifw::Segment;
using aifw::Tile;

float widen(uint16_t bfloat) {
  uint32_t bits = static_cast<uint32_t>(bfloat) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// Whether a row's bound is not below the threshold of query u.
bool passes(const Tile& tile, int u, int32_t dot, uint16_t scale, uint16_t radius, float reach, float bias) {
  const float middle = static_cast<float>(2 * dot - tile.offset[u]) * (widen(scale) * tile.scale[u]);
  const float spread = widen(radius) * tile.norm[u] + reach * tile.error[u];
  float bound = middle + spread;
  if (tile.biased) bound = bound + bias;
  return !(bound < tile.threshold[u]);
}

int32_t filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* hits) {
  int32_t count = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = mask_of(segment, first + b);
    const uint8_t* block = segment.blocks + (first + b) * segment.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(block);
    for (int r = 0; r < aifw::kBlockRows; ++r) {
      if (!(mask >> r & 1)) continue;
      int32_t dot = 0;
      for (int64_t g = 0; g < segment.code_dimensions / 8; ++g)
        for (int j = 0; j < 4; ++j) {
          const uint8_t pair = block[aifw::kHeaderBytes + 64 * g + 4 * r + j];
          dot += (pair & 15) * tile.codes[8 * g + j] + (pair >> 4) * tile.codes[8 * g + 4 + j];
        }
      if (passes(tile, 0, dot, header->scale[r], header->radius[r], segment.reach[first + b], header->bias[r]))
        hits[count++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows + r), dot};
    }
  }
  return count;
}

void unpack(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes) {
  for (int64_t b = 0; b < blocks; ++b) {
    const uint8_t* pairs = segment.blocks + (first + b) * segment.block_bytes + aifw::kHeaderBytes;
    const uint8_t* bits = behind_low_planes(segment, first + b) + sizeof(FineHeader);
    for (int64_t p = 0; p < segment.code_dimensions / 4; ++p)
      for (int i = 0; i < 64; ++i) {
        const uint8_t pair = pairs[64 * (p / 2) + i];
        const int t = 2 * (i / 32) + static_cast<int>(p % 2);
        *codes++ = static_cast<uint8_t>(4 * (p % 2 ? pair >> 4 : pair & 15) + (bits[p / 2 * 32 + i % 32] >> 2 * t & 3));
      }
  }
}

void filter_six(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes, const Tile& tile, Hit* const* hits,
                int32_t* counts) {
  if (tile.opens) unpack(segment, first, blocks, codes);
  for (int u = 0; u < tile.queries; ++u) counts[u] = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = mask_of(segment, first + b);
    const auto* header = reinterpret_cast<const BlockHeader*>(segment.blocks + (first + b) * segment.block_bytes);
    const auto* fine = reinterpret_cast<const FineHeader*>(behind_low_planes(segment, first + b));
    const uint8_t* block = codes + b * aifw::kBlockRows * segment.code_dimensions;
    for (int u = 0; u < tile.queries; ++u)
      for (int r = 0; r < aifw::kBlockRows; ++r) {
        if (!(mask >> r & 1)) continue;
        int32_t dot = 0;
        for (int64_t p = 0; p < segment.code_dimensions / 4; ++p)
          for (int j = 0; j < 4; ++j) dot += block[64 * p + 4 * r + j] * tile.codes[4 * (p * tile.queries + u) + j];
        if (passes(tile, u, dot, header->scale[r], fine->radius[r], fine->reach, header->bias[r]))
          hits[u][counts[u]++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows + r), dot};
      }
  }
}

template <int kept_bits>
void refine(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums) {
  const int64_t bytes = segment.code_dimensions / 2;
  for (int32_t i = 0; i < count; ++i) {
    const int64_t row = row0 + hits[i].row, block = row / aifw::kBlockRows, lane = row % aifw::kBlockRows;
    const uint8_t* low = segment.low + block * aifw::kBlockRows * segment.low_bytes + lane * bytes;
    int32_t sum = 0;
    for (int64_t m = 0; m < bytes; ++m) {
      const int8_t* at = query + m / 32 * 64 + m % 32;
      sum += (low[m] & kept_bits) * at[0] + (low[m] >> 4 & kept_bits) * at[32];
    }
    sums[i] = sum;
  }
}

double inner_product(const float* x, const float* y, int64_t floats) {
  double sums[4] = {};
  for (int64_t i = 0; i < floats; i += 4)
    for (int j = 0; j < 4; ++j) sums[j] += static_cast<double>(x[i + j]) * y[i + j];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

double squared_distance(const float* x, const float* y, int64_t floats) {
  double sums[4] = {};
  for (int64_t i = 0; i < floats; i += 4)
    for (int j = 0; j < 4; ++j) {
      const double difference = static_cast<double>(x[i + j]) - y[i + j];
      sums[j] += difference * difference;
    }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

namespace aifw {

const Kernels kScalar = {"scalar", aifw::kTileQueries, false, filter, refine<15>, filter_six, refine<3>, inner_product, squared_distance};

}
