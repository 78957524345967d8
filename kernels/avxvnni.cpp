// AVX2 and AVX-VNNI: 8 rows to a register; one instruction multiplies and sums four codes in 32 bits.
#include <immintrin.h>

#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::Hit;
using aifw::Segment;
using aifw::Tile;

// How far before its use a block is asked for: the processor's own prefetching stops at the end of a page.
constexpr int64_t kAhead = 4096;

inline __m256i load(const void* bytes) { return _mm256_loadu_si256(static_cast<const __m256i*>(bytes)); }

// Compilers like to have all operands of a step at hand before they add anything up, and then run out of registers.
inline void keep_order(__m256i& sum) {
#ifdef __AVXVNNI__
  asm("" : "+x"(sum));
#else
  (void)sum;  // emulated: perhaps no such register
#endif
}

inline __m256 widen(const uint16_t* bfloats) {
  const __m128i loaded = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bfloats));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(loaded), 16));
}

inline __m256i broadcast(const int8_t* four) {
  int32_t value;
  __builtin_memcpy(&value, four, sizeof value);
  return _mm256_set1_epi32(value);
}

template <int queries>
void filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits,
            int32_t* counts) {
  // Low and high halves are summed apart, as two chains of additions side by side, while there are registers for that.
  constexpr int kChains = queries <= 2 ? 2 : 1;
  const __m256i low_half = _mm256_set1_epi8(15);
  const int64_t groups = segment.code_dimensions / 8;
  int32_t found[queries] = {};
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = segment.mask ? __atomic_load_n(segment.mask + first + b, __ATOMIC_RELAXED) : 0xffff;
    if (!mask) continue;
    const uint8_t* block = segment.blocks + (first + b) * segment.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(block);
    const uint8_t* codes = block + aifw::kHeaderBytes;
    const int8_t* query = tile.codes;
    __m256i sums[queries][2][kChains] = {};
    for (int64_t g = 0; g < groups; ++g) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
      const __m256i both[2] = {load(codes), load(codes + 32)};
      const __m256i low[2] = {_mm256_and_si256(both[0], low_half), _mm256_and_si256(both[1], low_half)};
      const __m256i high[2] = {_mm256_and_si256(_mm256_srli_epi16(both[0], 4), low_half),
                               _mm256_and_si256(_mm256_srli_epi16(both[1], 4), low_half)};
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u) {
        const __m256i of_low = broadcast(query + 8 * u);
        for (int h = 0; h < 2; ++h) sums[u][h][0] = _mm256_dpbusd_avx_epi32(sums[u][h][0], low[h], of_low);
        for (int h = 0; h < 2; ++h) keep_order(sums[u][h][0]);
        const __m256i of_high = broadcast(query + 8 * u + 4);
        for (int h = 0; h < 2; ++h) {
          __m256i& sum = sums[u][h][kChains - 1];
          sum = _mm256_dpbusd_avx_epi32(sum, high[h], of_high);
          keep_order(sum);
        }
      }
      codes += 64;
      query += 8 * queries;
    }
    __m256i totals[queries][2];
#pragma GCC unroll 4
    for (int u = 0; u < queries; ++u)
      for (int h = 0; h < 2; ++h)
        totals[u][h] = kChains == 2 ? _mm256_add_epi32(sums[u][h][0], sums[u][h][kChains - 1]) : sums[u][h][0];
    const __m256 reach = _mm256_set1_ps(segment.reach[first + b]);
    for (int h = 0; h < 2; ++h) {
      const __m256 scale = widen(header->scale + 8 * h);
      const __m256 radius = widen(header->radius + 8 * h);
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u) {
        const __m256i twice = _mm256_add_epi32(totals[u][h], totals[u][h]);
        const __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(twice, _mm256_set1_epi32(tile.offset[u])));
        const __m256 middle = _mm256_mul_ps(dot, _mm256_mul_ps(scale, _mm256_set1_ps(tile.scale[u])));
        const __m256 spread = _mm256_add_ps(_mm256_mul_ps(radius, _mm256_set1_ps(tile.norm[u])),
                                            _mm256_mul_ps(reach, _mm256_set1_ps(tile.error[u])));
        __m256 bound = _mm256_add_ps(middle, spread);
        if (tile.biased) bound = _mm256_add_ps(bound, _mm256_loadu_ps(header->bias + 8 * h));
        const __m256 kept = _mm256_cmp_ps(bound, _mm256_set1_ps(tile.threshold[u]), _CMP_NLT_UQ);
        uint32_t rows = static_cast<uint32_t>(_mm256_movemask_ps(kept)) & (mask >> 8 * h & 0xff);
        if (!rows) continue;
        alignas(32) int32_t dots[8];
        _mm256_store_si256(reinterpret_cast<__m256i*>(dots), totals[u][h]);
        do {
          const int r = __builtin_ctz(rows);
          rows &= rows - 1;
          hits[u][found[u]++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows + 8 * h + r), dots[r]};
        } while (rows);
      }
    }
  }
  for (int u = 0; u < queries; ++u) counts[u] = found[u];
}

void filter_tile(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits,
                 int32_t* counts) {
  switch (tile.queries) {
    case 1: return filter<1>(segment, first, blocks, tile, hits, counts);
    case 2: return filter<2>(segment, first, blocks, tile, hits, counts);
    case 3: return filter<3>(segment, first, blocks, tile, hits, counts);
    default: return filter<4>(segment, first, blocks, tile, hits, counts);
  }
}

inline int32_t sum_of(__m256i words) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

void refine(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums) {
  constexpr int32_t kRowsAhead = 8;
  const __m256i low_half = _mm256_set1_epi8(15);
  const int64_t bytes = segment.code_dimensions / 2;
  const uint8_t* low = segment.low + row0 * bytes;
  for (int32_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) {
      const char* ahead = reinterpret_cast<const char*>(low + hits[i + kRowsAhead].row * bytes);
      for (int64_t m = 0; m < bytes; m += 64) _mm_prefetch(ahead + m, _MM_HINT_T0);
    }
    const uint8_t* row = low + hits[i].row * bytes;
    __m256i of_low = _mm256_setzero_si256();
    __m256i of_high = _mm256_setzero_si256();
    for (int64_t m = 0; m < bytes; m += 32) {
      const __m256i both = load(row + m);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half);
      of_low = _mm256_dpbusd_avx_epi32(of_low, _mm256_and_si256(both, low_half), load(query + 2 * m));
      of_high = _mm256_dpbusd_avx_epi32(of_high, high, load(query + 2 * m + 32));
    }
    sums[i] = sum_of(_mm256_add_epi32(of_low, of_high));
  }
}

inline double sum_of(__m256d doubles) {
  const __m128d sum = _mm_add_pd(_mm256_castpd256_pd128(doubles), _mm256_extractf128_pd(doubles, 1));
  return _mm_cvtsd_f64(_mm_add_sd(sum, _mm_unpackhi_pd(sum, sum)));
}

template <bool squared>
double sum_products(const float* x, const float* y, int64_t floats) {
  __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
  for (int64_t i = 0; i < floats; i += 16)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4 * j));
      const __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(y + i + 4 * j));
      const __m256d difference = _mm256_sub_pd(a, b);
      sums[j] = _mm256_add_pd(sums[j], squared ? _mm256_mul_pd(difference, difference) : _mm256_mul_pd(a, b));
    }
  return sum_of(_mm256_add_pd(_mm256_add_pd(sums[0], sums[1]), _mm256_add_pd(sums[2], sums[3])));
}

double inner_product(const float* x, const float* y, int64_t floats) { return sum_products<false>(x, y, floats); }
double squared_distance(const float* x, const float* y, int64_t floats) { return sum_products<true>(x, y, floats); }

}  // namespace

namespace aifw {

const Kernels kAvxVnni = {"avxvnni", filter_tile, refine, inner_product, squared_distance};

}
