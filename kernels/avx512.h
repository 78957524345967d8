// What the two AVX-512 files share: a whole block, 16 rows, to a register. All of it is private to the file that includes it,
// because each is compiled for its own processors; that file says how products are added up, as a class
//     struct Sums {
//       static constexpr bool kNarrow;                                      // whether sums have 16 bits until they are widened
//       static __m512i add(__m512i sums, __m512i codes, __m512i query);     // sums of neighbouring products, added to others
//       static __m512i widen(__m512i totals, __m512i sums);                 // the sums added to totals of 32 bits
//     };
#pragma once

// GCC 12 takes the "any value" of its own header for a mistake of ours (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "blocks.h"
#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::FineHeader;
using aifw::Hit;
using aifw::kTileQueries;
using aifw::Segment;
using aifw::Tile;

// A pair of products is at most 2 * 15 * 127 = 3,810 in size, so that eight of them fit 16 bits; or 2 * 63 * 63 = 7,938: four.
constexpr int kStepsOfFour = 8;
constexpr int kStepsOfSix = 4;
static_assert(aifw::kCodeAlign % (4 * kStepsOfFour) == 0 && aifw::kCodeAlign % (4 * kStepsOfSix) == 0);

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

inline void prefetch(const void* at) { _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T0); }

// Of block b of the range that starts with block `first`, appends the rows whose bound is not below the threshold of query u, and
// asks for what refine will read of them. Returns how many hits there are.
inline int32_t append(const Segment& segment, int64_t first, int64_t b, uint32_t mask, __m512i dots, __m512 scale, __m512 radius,
                      __m512 reach, const float* bias, const Tile& tile, int u, Hit* hits, int32_t count) {
  const __m512i twice = _mm512_add_epi32(dots, dots);
  const __m512 centred = _mm512_cvtepi32_ps(_mm512_sub_epi32(twice, _mm512_set1_epi32(tile.offset[u])));
  const __m512 middle = _mm512_mul_ps(centred, _mm512_mul_ps(scale, _mm512_set1_ps(tile.scale[u])));
  const __m512 spread = _mm512_add_ps(_mm512_mul_ps(radius, _mm512_set1_ps(tile.norm[u])),
                                      _mm512_mul_ps(reach, _mm512_set1_ps(tile.error[u])));
  __m512 bound = _mm512_add_ps(middle, spread);
  if (tile.biased) bound = _mm512_add_ps(bound, _mm512_loadu_ps(bias));
  uint32_t rows = mask & _mm512_cmp_ps_mask(bound, _mm512_set1_ps(tile.threshold[u]), _CMP_NLT_UQ);
  if (rows) {
    alignas(64) int32_t values[aifw::kBlockRows];
    _mm512_store_si512(values, dots);
    do {
      const int r = __builtin_ctz(rows);
      rows &= rows - 1;
      hits[count++] = Hit{static_cast<int32_t>(b * aifw::kBlockRows) + r, values[r]};
      const uint8_t* low = low_plane(segment, (first + b) * aifw::kBlockRows + r);
      for (int64_t m = 0; m < segment.code_dimensions / 2; m += 64) prefetch(low + m);
    } while (rows);
  }
  return count;
}

template <class Sums>
int32_t filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* hits) {
  const __m512i half = _mm512_set1_epi8(15);
  int32_t count = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = mask_of(segment, first + b);
    if (!mask) continue;
    const BlockHeader* header = header_of(segment, first + b);
    const uint8_t* codes = reinterpret_cast<const uint8_t*>(header + 1);
    const int8_t* query = tile.codes;
    const int8_t* end = query + segment.code_dimensions;
    __m512i total = _mm512_setzero_si512();
    while (query < end) {
      __m512i sums = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int step = 0; step < kStepsOfFour; step += 2) {
        prefetch(codes + kAhead);
        const __m512i pairs = _mm512_loadu_si512(codes);
        sums = Sums::add(sums, _mm512_and_si512(pairs, half), broadcast(query));
        sums = Sums::add(sums, _mm512_and_si512(_mm512_srli_epi16(pairs, 4), half), broadcast(query + 4));
        codes += 64;
        query += 8;
      }
      total = Sums::widen(total, sums);
    }
    count = append(segment, first, b, mask, total, widen(header->scale), widen(header->radius),
                   _mm512_set1_ps(segment.reach[first + b]), header->bias, tile, 0, hits, count);
  }
  return count;
}

// Codes of six bits of eight components of a block: the first four, and the last four.
struct Eight {
  __m512i first, last;
};

inline Eight unpack(const uint8_t* pairs, const uint8_t* bits) {
  const __m512i upper = _mm512_set1_epi8(60);
  const __m512i six = _mm512_set1_epi8(63);
  // Rows 8 to 15 have the last four bits of a byte; components 4 to 7 the second and the fourth two.
  const __m512i of_first = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
  const __m512i of_last = _mm512_inserti64x4(_mm512_set1_epi16(2), _mm256_set1_epi16(6), 1);
  const __m512i both = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits)));
  const __m512i pair = _mm512_loadu_si512(pairs);
  const __m512i first = _mm512_srlv_epi16(both, of_first), last = _mm512_srlv_epi16(both, of_last);
  constexpr int kChoose = 0xca;  // a bit of the second where the first has one, else of the third
  return {_mm512_and_si512(six, _mm512_ternarylogic_epi32(upper, _mm512_slli_epi16(pair, 2), first, kChoose)),
          _mm512_and_si512(six, _mm512_ternarylogic_epi32(upper, _mm512_srli_epi16(pair, 2), last, kChoose))};
}

// Blocks whose sums are taken together: each query code that is read serves all of them. There are as many sums as registers allow, or
// nearly, because an addition takes several cycles.
template <class Sums, int queries>
constexpr int tall() {
  return (Sums::kNarrow ? 1 : 2) * (queries > 4 ? 1 : 2);
}

// `count` blocks of the list; the others are copies of one of these, and give no hits.
template <class Sums, int queries, bool opens>
inline void filter_blocks(const Segment& segment, int64_t first, const int32_t* blocks, int count, uint8_t* codes, const Tile& tile,
                          Hit* const* hits, int32_t* found) {
  constexpr int kTall = tall<Sums, queries>();
  const uint8_t *pairs[kTall], *bits[kTall];
  uint8_t* rows[kTall];
  // The processor's own prefetching does not follow two streams that jump.
  const int64_t next_pairs = kTall * segment.block_bytes;
  const int64_t next_bits = kTall * aifw::kBlockRows * segment.low_bytes;
  for (int t = 0; t < kTall; ++t) {
    pairs[t] = reinterpret_cast<const uint8_t*>(header_of(segment, first + blocks[t]) + 1);
    bits[t] = behind_low_planes(segment, first + blocks[t]) + sizeof(FineHeader);
    rows[t] = codes + blocks[t] * aifw::kBlockRows * segment.code_dimensions;
    if (!opens) continue;
    for (int64_t line = 0; line < aifw::kHeaderBytes; line += 64) prefetch(pairs[t] - aifw::kHeaderBytes + next_pairs + line);
    prefetch(bits[t] - sizeof(FineHeader) + next_bits);
  }
  const int8_t* query = tile.codes;
  const bool leaves = !tile.closes;
  alignas(64) __m512i totals[kTall][queries] = {};
  for (int64_t g = 0; g < segment.code_dimensions / 8;) {
    __m512i sums[kTall][queries];
#pragma GCC unroll 4
    for (int t = 0; t < kTall; ++t)
#pragma GCC unroll 8
      for (int u = 0; u < queries; ++u) sums[t][u] = _mm512_setzero_si512();
    const int64_t stop = Sums::kNarrow ? g + kStepsOfSix / 2 : segment.code_dimensions / 8;
    for (; g < stop; ++g, query += 8 * queries) {
      Eight eight[kTall];
#pragma GCC unroll 4
      for (int t = 0; t < kTall; ++t) {
        if (!opens) {
          eight[t] = {_mm512_loadu_si512(rows[t] + 128 * g), _mm512_loadu_si512(rows[t] + 128 * g + 64)};
          continue;
        }
        prefetch(pairs[t] + 64 * g + next_pairs);
        prefetch(bits[t] + 32 * g + next_bits);
        eight[t] = unpack(pairs[t] + 64 * g, bits[t] + 32 * g);
        if (leaves) {
          _mm512_storeu_si512(rows[t] + 128 * g, eight[t].first);
          _mm512_storeu_si512(rows[t] + 128 * g + 64, eight[t].last);
        }
      }
#pragma GCC unroll 8
      for (int u = 0; u < queries; ++u) {
        const __m512i q = broadcast(query + 4 * u);
#pragma GCC unroll 4
        for (int t = 0; t < kTall; ++t) {
          sums[t][u] = Sums::add(sums[t][u], eight[t].first, q);
          keep_order(sums[t][u]);
        }
      }
#pragma GCC unroll 8
      for (int u = 0; u < queries; ++u) {
        const __m512i q = broadcast(query + 4 * (queries + u));
#pragma GCC unroll 4
        for (int t = 0; t < kTall; ++t) {
          sums[t][u] = Sums::add(sums[t][u], eight[t].last, q);
          keep_order(sums[t][u]);
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < kTall; ++t)
#pragma GCC unroll 8
      for (int u = 0; u < queries; ++u) totals[t][u] = Sums::widen(totals[t][u], sums[t][u]);
  }
  for (int t = 0; t < count; ++t) {
    const int64_t b = blocks[t];
    const BlockHeader* header = header_of(segment, first + b);
    const auto* fine = reinterpret_cast<const FineHeader*>(behind_low_planes(segment, first + b));
    const __m512 reach = _mm512_set1_ps(fine->reach), scale = widen(header->scale), radius = widen(fine->radius);
    for (int u = 0; u < queries; ++u)
      found[u] = append(segment, first, b, mask_of(segment, first + b), totals[t][u], scale, radius, reach, header->bias, tile, u,
                        hits[u], found[u]);
  }
}

template <class Sums, int queries, bool opens>
void filter_six(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes, const Tile& tile, Hit* const* hits,
                int32_t* counts) {
  constexpr int kTall = tall<Sums, queries>();
  int32_t found[queries] = {};
  int32_t together[kTall];
  int count = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    if (!mask_of(segment, first + b)) continue;
    together[count++] = static_cast<int32_t>(b);
    if (count < kTall) continue;
    filter_blocks<Sums, queries, opens>(segment, first, together, count, codes, tile, hits, found);
    count = 0;
  }
  if (count) {
    for (int t = count; t < kTall; ++t) together[t] = together[0];
    filter_blocks<Sums, queries, opens>(segment, first, together, count, codes, tile, hits, found);
  }
  for (int u = 0; u < queries; ++u) counts[u] = found[u];
}

template <class Sums, int queries>
void filter_six_of(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes, const Tile& tile, Hit* const* hits,
                   int32_t* counts) {
  if (tile.opens)
    filter_six<Sums, queries, true>(segment, first, blocks, codes, tile, hits, counts);
  else
    filter_six<Sums, queries, false>(segment, first, blocks, codes, tile, hits, counts);
}

template <class Sums>
void filter_six_tile(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes, const Tile& tile,
                     Hit* const* hits, int32_t* counts) {
  constexpr decltype(&filter_six_of<Sums, 1>) kFunctions[kTileQueries] = {
      filter_six_of<Sums, 1>, filter_six_of<Sums, 2>, filter_six_of<Sums, 3>, filter_six_of<Sums, 4>,
      filter_six_of<Sums, 5>, filter_six_of<Sums, 6>, filter_six_of<Sums, 7>, filter_six_of<Sums, 8>};
  kFunctions[tile.queries - 1](segment, first, blocks, codes, tile, hits, counts);
}

inline int32_t sum_of(__m512i words) {
  const __m256i four = _mm256_add_epi32(_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64(words, 1));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

template <class Sums, int kept_bits>
void refine(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums) {
  const __m512i kept = _mm512_set1_epi8(kept_bits);
  const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
  const int64_t bytes = segment.code_dimensions / 2;
  for (int32_t i = 0; i < count; ++i) {
    const uint8_t* row = low_plane(segment, row0 + hits[i].row);
    __m512i total = _mm512_setzero_si512();
    for (int64_t m = 0; m < bytes;) {
      __m512i sum = _mm512_setzero_si512();
      const int64_t stop = m + 32 * kStepsOfFour < bytes ? m + 32 * kStepsOfFour : bytes;
      for (; m < stop; m += 32) {
        // The same 32 bytes twice: low halves below, high halves above, as the query's components are ordered.
        const __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + m)));
        sum = Sums::add(sum, _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), kept), _mm512_loadu_si512(query + 2 * m));
      }
      total = Sums::widen(total, sum);
    }
    sums[i] = sum_of(total);
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

template <class Sums>
constexpr aifw::Kernels table(const char* name) {
  return {name,          kTileQueries,    Sums::kNarrow, filter<Sums>, refine<Sums, 15>, filter_six_tile<Sums>, refine<Sums, 3>,
          inner_product, squared_distance};
}

}  // namespace
