// AVX2: 8 rows to a register, products of codes summed in 16 bits for eight steps and then in 32.
#include <immintrin.h>

#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::Hit;
using aifw::Segment;
using aifw::Tile;

// A pair of products is at most 2 * 15 * 127 = 3,810 in size, so eight of them fit 16 bits.
constexpr int64_t kGroupsBeforeWidening = 4;

inline __m256 widen(__m128i bfloats) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bfloats), 16));
}

inline __m256i broadcast(const int8_t* four) {
  return _mm256_broadcastd_epi32(_mm_loadu_si32(four));
}

// Compilers like to add up a step's products before they add them to the sums, and then run out of registers.
inline void keep_order(__m256i (&sums)[2]) { asm("" : "+x"(sums[0]), "+x"(sums[1])); }

template <int queries>
void filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits, int32_t* counts) {
  const __m256i low_half = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_set1_epi16(1);
  const int64_t groups = segment.code_dimensions / 8;
  int32_t found[queries] = {};
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = segment.mask ? __atomic_load_n(segment.mask + first + b, __ATOMIC_RELAXED) : 0xffff;
    if (!mask) continue;
    const uint8_t* block = segment.blocks + (first + b) * segment.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(block);
    const uint8_t* codes = block + aifw::kHeaderBytes;
    const int8_t* query = tile.codes;
    __m256i sums[queries][2];
    for (int u = 0; u < queries; ++u) sums[u][0] = sums[u][1] = _mm256_setzero_si256();
    for (int64_t g = 0; g < groups; g += kGroupsBeforeWidening) {
      __m256i short_sums[queries][2];
      for (int u = 0; u < queries; ++u) short_sums[u][0] = short_sums[u][1] = _mm256_setzero_si256();
#pragma GCC unroll 1
      for (int step = 0; step < kGroupsBeforeWidening; ++step) {
        if (queries <= 2) _mm_prefetch(reinterpret_cast<const char*>(codes + 4096), _MM_HINT_T0);
        const __m256i upper_rows = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
        const __m256i lower_rows = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32));
        const __m256i a0 = _mm256_and_si256(upper_rows, low_half);
        const __m256i a1 = _mm256_and_si256(_mm256_srli_epi16(upper_rows, 4), low_half);
        const __m256i b0 = _mm256_and_si256(lower_rows, low_half);
        const __m256i b1 = _mm256_and_si256(_mm256_srli_epi16(lower_rows, 4), low_half);
#pragma GCC unroll 4
        for (int u = 0; u < queries; ++u) {
          const __m256i q0 = broadcast(query + 8 * u);
          short_sums[u][0] = _mm256_add_epi16(short_sums[u][0], _mm256_maddubs_epi16(a0, q0));
          short_sums[u][1] = _mm256_add_epi16(short_sums[u][1], _mm256_maddubs_epi16(b0, q0));
          keep_order(short_sums[u]);
          const __m256i q1 = broadcast(query + 8 * u + 4);
          short_sums[u][0] = _mm256_add_epi16(short_sums[u][0], _mm256_maddubs_epi16(a1, q1));
          short_sums[u][1] = _mm256_add_epi16(short_sums[u][1], _mm256_maddubs_epi16(b1, q1));
          keep_order(short_sums[u]);
        }
        codes += 64;
        query += 8 * queries;
      }
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u)
        for (int h = 0; h < 2; ++h)
          sums[u][h] = _mm256_add_epi32(sums[u][h], _mm256_madd_epi16(short_sums[u][h], ones));
    }
    const __m256 reach = _mm256_set1_ps(segment.reach[first + b]);
    for (int h = 0; h < 2; ++h) {
      const __m256 scale = widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(header->scale + 8 * h)));
      const __m256 radius = widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(header->radius + 8 * h)));
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u) {
        const __m256i twice = _mm256_add_epi32(sums[u][h], sums[u][h]);
        const __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(twice, _mm256_set1_epi32(tile.offset[u])));
        const __m256 middle = _mm256_mul_ps(dot, _mm256_mul_ps(scale, _mm256_set1_ps(tile.scale[u])));
        const __m256 spread = _mm256_add_ps(_mm256_mul_ps(radius, _mm256_set1_ps(tile.norm[u])),
                                            _mm256_mul_ps(reach, _mm256_set1_ps(tile.error[u])));
        __m256 bound = _mm256_add_ps(middle, spread);
        if (tile.biased) bound = _mm256_add_ps(bound, _mm256_loadu_ps(header->bias + 8 * h));
        const __m256 kept = _mm256_cmp_ps(bound, _mm256_set1_ps(tile.threshold[u]), _CMP_NLT_UQ);
        uint32_t rows = static_cast<uint32_t>(_mm256_movemask_ps(kept)) & (mask >> 8 * h & 0xff);
        if (rows) {
          alignas(32) int32_t dots[8];
          _mm256_store_si256(reinterpret_cast<__m256i*>(dots), sums[u][h]);
          do {
            const int r = __builtin_ctz(rows);
            rows &= rows - 1;
            hits[u][found[u]++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows + 8 * h + r), dots[r]};
          } while (rows);
        }
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
  const __m256i low_half = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_set1_epi16(1);
  const int64_t bytes = segment.code_dimensions / 2;
  const uint8_t* low = segment.low + row0 * bytes;
  for (int32_t i = 0; i < count; ++i) {
    if (i + 8 < count) {
      const char* ahead = reinterpret_cast<const char*>(low + hits[i + 8].row * bytes);
      for (int64_t m = 0; m < bytes; m += 64) _mm_prefetch(ahead + m, _MM_HINT_T0);
    }
    const uint8_t* row = low + hits[i].row * bytes;
    __m256i sum = _mm256_setzero_si256();
    for (int64_t m = 0; m < bytes;) {
      __m256i short_sum = _mm256_setzero_si256();
      const int64_t stop = m + 128 < bytes ? m + 128 : bytes;
      for (; m < stop; m += 32) {
        const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + m));
        const __m256i q0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + 2 * m));
        const __m256i q1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + 2 * m + 32));
        short_sum = _mm256_add_epi16(short_sum, _mm256_maddubs_epi16(_mm256_and_si256(both, low_half), q0));
        short_sum = _mm256_add_epi16(
            short_sum, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(both, 4), low_half), q1));
      }
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(short_sum, ones));
    }
    sums[i] = sum_of(sum);
  }
}

inline double sum_of(__m256d doubles) {
  __m128d sum = _mm_add_pd(_mm256_castpd256_pd128(doubles), _mm256_extractf128_pd(doubles, 1));
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

const Kernels kAvx2 = {"avx2", filter_tile, refine, inner_product, squared_distance};

}
