// What the two AVX-512 files share: a whole block, 16 rows, to a register. All of it is private to the file that
// includes it, because each is compiled for its own processors; that file says how products are added up, as a class
//     struct Sum {
//       void add(__m512i codes, __m512i query);  // four products to each 32-bit lane
//       void widen();                            // after at most kStep calls of add
//       __m512i total;
//     };
#pragma once

// GCC 12 takes the "any value" of its own header for a mistake of ours (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::Hit;
using aifw::Segment;
using aifw::Tile;

// A pair of products is at most 2 * 15 * 127 = 3,810 in size, so eight of them fit 16 bits. Dimensions come in
// multiples of as many steps.
constexpr int kStep = 8;
static_assert(aifw::kCodeAlign == 8 * kStep);

// How far before its use a block is asked for: the processor's own prefetching stops at the end of a page.
constexpr int64_t kAhead = 4096;

// Compilers like to gather the products of several steps before they add them up, and then run out of registers.
inline void keep_order(__m512i& sum) {
#ifdef __AVX512F__
  asm("" : "+v"(sum));
#else
  (void)sum;  // emulated: no such register
#endif
}

inline __m512 widen(const uint16_t* bfloats) {
  const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bfloats));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(loaded), 16));
}

inline __m512i broadcast(const int8_t* four) {
  int32_t value;
  __builtin_memcpy(&value, four, sizeof value);
  return _mm512_set1_epi32(value);
}

template <class Sum, int queries>
void filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits,
            int32_t* counts) {
  const __m512i low_half = _mm512_set1_epi8(15);
  const int64_t groups = segment.code_dimensions / 8;
  int32_t found[queries] = {};
  for (int64_t b = 0; b < blocks; ++b) {
    const uint16_t mask = segment.mask ? __atomic_load_n(segment.mask + first + b, __ATOMIC_RELAXED) : 0xffff;
    if (!mask) continue;
    const uint8_t* block = segment.blocks + (first + b) * segment.block_bytes;
    const auto* header = reinterpret_cast<const BlockHeader*>(block);
    const uint8_t* codes = block + aifw::kHeaderBytes;
    const int8_t* query = tile.codes;
    Sum sums[queries][2] = {};  // of low and high halves: two chains of additions are done side by side
    for (int64_t g = 0; g < groups; g += kStep) {
#pragma GCC unroll 8
      for (int step = 0; step < kStep; ++step) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
        const __m512i both = _mm512_loadu_si512(codes);
        const __m512i low = _mm512_and_si512(both, low_half);
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
#pragma GCC unroll 4
        for (int u = 0; u < queries; ++u) {
          sums[u][0].add(low, broadcast(query + 8 * u));
          sums[u][1].add(high, broadcast(query + 8 * u + 4));
        }
        codes += 64;
        query += 8 * queries;
      }
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u) {
        sums[u][0].widen();
        sums[u][1].widen();
      }
    }
    const __m512 reach = _mm512_set1_ps(segment.reach[first + b]);
    const __m512 scale = widen(header->scale);
    const __m512 radius = widen(header->radius);
#pragma GCC unroll 4
    for (int u = 0; u < queries; ++u) {
      const __m512i sum = _mm512_add_epi32(sums[u][0].total, sums[u][1].total);
      const __m512i twice = _mm512_add_epi32(sum, sum);
      const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(twice, _mm512_set1_epi32(tile.offset[u])));
      const __m512 middle = _mm512_mul_ps(dot, _mm512_mul_ps(scale, _mm512_set1_ps(tile.scale[u])));
      const __m512 spread = _mm512_add_ps(_mm512_mul_ps(radius, _mm512_set1_ps(tile.norm[u])),
                                          _mm512_mul_ps(reach, _mm512_set1_ps(tile.error[u])));
      __m512 bound = _mm512_add_ps(middle, spread);
      if (tile.biased) bound = _mm512_add_ps(bound, _mm512_loadu_ps(header->bias));
      uint32_t rows = mask & _mm512_cmp_ps_mask(bound, _mm512_set1_ps(tile.threshold[u]), _CMP_NLT_UQ);
      if (!rows) continue;
      alignas(64) int32_t dots[aifw::kBlockRows];
      _mm512_store_si512(dots, sum);
      do {
        const int r = __builtin_ctz(rows);
        rows &= rows - 1;
        hits[u][found[u]++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows + r), dots[r]};
      } while (rows);
    }
  }
  for (int u = 0; u < queries; ++u) counts[u] = found[u];
}

template <class Sum>
void filter_tile(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits,
                 int32_t* counts) {
  switch (tile.queries) {
    case 1: return filter<Sum, 1>(segment, first, blocks, tile, hits, counts);
    case 2: return filter<Sum, 2>(segment, first, blocks, tile, hits, counts);
    case 3: return filter<Sum, 3>(segment, first, blocks, tile, hits, counts);
    default: return filter<Sum, 4>(segment, first, blocks, tile, hits, counts);
  }
}

inline int32_t sum_of(__m512i words) {
  const __m256i four = _mm256_add_epi32(_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64(words, 1));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

template <class Sum>
void refine(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums) {
  constexpr int32_t kRowsAhead = 8;
  const __m512i low_half = _mm512_set1_epi8(15);
  const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
  const int64_t bytes = segment.code_dimensions / 2;
  const uint8_t* low = segment.low + row0 * bytes;
  for (int32_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) {
      const char* ahead = reinterpret_cast<const char*>(low + hits[i + kRowsAhead].row * bytes);
      for (int64_t m = 0; m < bytes; m += 64) _mm_prefetch(ahead + m, _MM_HINT_T0);
    }
    const uint8_t* row = low + hits[i].row * bytes;
    Sum sum = {};
    for (int64_t m = 0; m < bytes;) {
      const int64_t stop = m + 32 * kStep < bytes ? m + 32 * kStep : bytes;
      for (; m < stop; m += 32) {
        // The same 32 bytes twice: low halves below, high halves above, as the query's components are ordered.
        const __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + m)));
        const __m512i codes = _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), low_half);
        sum.add(codes, _mm512_loadu_si512(query + 2 * m));
      }
      sum.widen();
    }
    sums[i] = sum_of(sum.total);
  }
}

inline double sum_of(__m512d doubles) {
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(doubles), _mm512_extractf64x4_pd(doubles, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

template <bool squared>
double sum_products(const float* x, const float* y, int64_t floats) {
  __m512d sums[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (int64_t i = 0; i < floats; i += 16)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(x + i + 8 * j));
      const __m512d b = _mm512_cvtps_pd(_mm256_loadu_ps(y + i + 8 * j));
      const __m512d difference = _mm512_sub_pd(a, b);
      sums[j] = squared ? _mm512_fmadd_pd(difference, difference, sums[j]) : _mm512_fmadd_pd(a, b, sums[j]);
    }
  return sum_of(_mm512_add_pd(sums[0], sums[1]));
}

double inner_product(const float* x, const float* y, int64_t floats) { return sum_products<false>(x, y, floats); }
double squared_distance(const float* x, const float* y, int64_t floats) { return sum_products<true>(x, y, floats); }

}  // namespace
