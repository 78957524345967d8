// For any processor, and the reading of what the other files must compute.
#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::Hit;
using aifw::Segment;
using aifw::Tile;

float widen(uint16_t bfloat) {
  uint32_t bits = static_cast<uint32_t>(bfloat) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

void filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits, int32_t* counts) {
  for (int u = 0; u < tile.queries; ++u) counts[u] = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const uint16_t mask = segment.mask ? __atomic_load_n(segment.mask + first + b, __ATOMIC_RELAXED) : 0xffff;
    if (!mask) continue;
    const uint8_t* block = segment.blocks + (first + b) * segment.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(block);
    const uint8_t* codes = block + aifw::kHeaderBytes;
    for (int u = 0; u < tile.queries; ++u) {
      int32_t dots[aifw::kBlockRows] = {};
      for (int64_t g = 0; g < segment.code_dimensions / 8; ++g) {
        const int8_t* query = tile.codes + 8 * (g * tile.queries + u);
        for (int r = 0; r < aifw::kBlockRows; ++r)
          for (int j = 0; j < 4; ++j) {
            const uint8_t code = codes[64 * g + 4 * r + j];
            dots[r] += (code & 15) * query[j] + (code >> 4) * query[4 + j];
          }
      }
      for (int r = 0; r < aifw::kBlockRows; ++r) {
        if (!(mask >> r & 1)) continue;
        const float middle = static_cast<float>(2 * dots[r] - tile.offset[u]) * (widen(header->scale[r]) * tile.scale[u]);
        const float spread = widen(header->radius[r]) * tile.norm[u] + segment.reach[first + b] * tile.error[u];
        float bound = middle + spread;
        if (tile.biased) bound = bound + header->bias[r];
        if (!(bound < tile.threshold[u]))
          hits[u][counts[u]++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows + r), dots[r]};
      }
    }
  }
}

void refine(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums) {
  const int64_t bytes = segment.code_dimensions / 2;
  for (int32_t i = 0; i < count; ++i) {
    const uint8_t* low = segment.low + (row0 + hits[i].row) * bytes;
    int32_t sum = 0;
    for (int64_t m = 0; m < bytes; ++m) {
      const int8_t* at = query + m / 32 * 64 + m % 32;
      sum += (low[m] & 15) * at[0] + (low[m] >> 4) * at[32];
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

const Kernels kScalar = {"scalar", filter, refine, inner_product, squared_distance};

}
