// What the two 256-bit files share: eight rows of a block to a register. All of it is private to the file that includes it, because
// each is compiled for its own processors; that file says how products are added up, as a class
//     struct Sums {
//       static constexpr bool kNarrow;                                      // whether sums have 16 bits until they are widened
//       static __m256i start(__m256i codes, __m256i query);                 // sums of neighbouring products
//       static __m256i add(__m256i sums, __m256i codes, __m256i query);     // the same, added to others
//       static __m256i widen(__m256i totals, __m256i sums);                 // the sums added to totals of 32 bits
//       static __m256i begin(const int32_t* centre);                        // what the sums of a run begin with
//       static __m256i end(__m256i totals, int32_t lift);                   // totals of all runs as those of the codes themselves
//     };
#pragma once

#include <immintrin.h>

#include "blocks.h"
#include "kernels.h"

namespace {

using aifw::BlockHeader;
using aifw::FineHeader;
using aifw::Hit;
using aifw::Segment;
using aifw::Tile;

// A pair of products of codes of four bits is at most 2 * 15 * 127 = 3,810 in size, so that eight of them fit 16 bits.
constexpr int kStepsOfFour = 8;
constexpr int kStepsOfSix = aifw::kStepsOfARun;
static_assert(aifw::kCodeAlign % (4 * kStepsOfFour) == 0 && aifw::kCodeAlign % (4 * kStepsOfSix) == 0);

// How far before its use a block is asked for: the processor's own prefetching stops at the end of a page.
constexpr int64_t kAhead = 4096;

inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

inline void prefetch(const void* at) { _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T0); }

inline __m256i broadcast(const int8_t* four) {
  int32_t value;
  __builtin_memcpy(&value, four, sizeof value);
  return _mm256_set1_epi32(value);
}

inline __m256 widen(const uint16_t* bfloats) {
  const __m128i loaded = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bfloats));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(loaded), 16));
}

// Of the eight rows from `row` of the range that starts with block `first`, appends those whose bound is not below the threshold of
// query u, and asks for what refine will read of them. Returns how many hits there are.
inline int32_t append(const Segment& segment, int64_t first, int32_t row, uint32_t mask, __m256i dots, __m256 scale, __m256 radius,
                      __m256 reach, const float* bias, const Tile& tile, int u, Hit* hits, int32_t count) {
  const __m256i twice = _mm256_add_epi32(dots, dots);
  const __m256 centred = _mm256_cvtepi32_ps(_mm256_sub_epi32(twice, _mm256_set1_epi32(tile.offset[u])));
  const __m256 middle = _mm256_mul_ps(centred, _mm256_mul_ps(scale, _mm256_set1_ps(tile.scale[u])));
  const __m256 spread = _mm256_add_ps(_mm256_mul_ps(radius, _mm256_set1_ps(tile.norm[u])),
                                      _mm256_mul_ps(reach, _mm256_set1_ps(tile.error[u])));
  __m256 bound = _mm256_add_ps(middle, spread);
  if (tile.biased) bound = _mm256_add_ps(bound, _mm256_loadu_ps(bias));
  const __m256 kept = _mm256_cmp_ps(bound, _mm256_set1_ps(tile.threshold[u]), _CMP_NLT_UQ);
  uint32_t rows = static_cast<uint32_t>(_mm256_movemask_ps(kept)) & mask & 0xff;
  if (rows) {
    alignas(32) int32_t values[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(values), dots);
    do {
      const int r = __builtin_ctz(rows);
      rows &= rows - 1;
      hits[count++] = Hit{row + r, values[r]};
      const uint8_t* low = low_plane(segment, first * aifw::kBlockRows + row + r);
      for (int64_t m = 0; m < segment.code_dimensions / 2; m += 64) prefetch(low + m);
    } while (rows);
  }
  return count;
}

// Compilers like to gather the products of several steps before they add them up, and then run out of registers.
inline void keep_order(__m256i (&sums)[2]) {
#ifdef __AVX2__
  asm("" : "+x"(sums[0]), "+x"(sums[1]));
#else
  (void)sums;  // emulated: perhaps no such registers
#endif
}

template <class Sums>
int32_t filter(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* hits) {
  const __m256i half = _mm256_set1_epi8(15);
  int32_t count = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = mask_of(segment, first + b);
    if (!mask) continue;
    const BlockHeader* header = header_of(segment, first + b);
    const uint8_t* codes = reinterpret_cast<const uint8_t*>(header + 1);
    const int8_t* query = tile.codes;
    const int8_t* end = query + segment.code_dimensions;
    __m256i totals[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    while (query < end) {
      __m256i sums[2];
#pragma GCC unroll 4
      for (int step = 0; step < kStepsOfFour; step += 2) {
        prefetch(codes + kAhead);
        const __m256i q0 = broadcast(query), q1 = broadcast(query + 4);
        for (int h = 0; h < 2; ++h) {
          const __m256i pairs = load(codes + 32 * h);
          const __m256i lower = _mm256_and_si256(pairs, half);
          const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), half);
          sums[h] = step ? Sums::add(sums[h], lower, q0) : Sums::start(lower, q0);
          sums[h] = Sums::add(sums[h], upper, q1);
        }
        keep_order(sums);
        codes += 64;
        query += 8;
      }
      for (int h = 0; h < 2; ++h) totals[h] = Sums::widen(totals[h], sums[h]);
    }
    const __m256 reach = _mm256_set1_ps(segment.reach[first + b]);
    for (int h = 0; h < 2; ++h)
      count = append(segment, first, static_cast<int32_t>(b * aifw::kBlockRows + 8 * h), mask >> 8 * h, totals[h],
                     widen(header->scale + 8 * h), widen(header->radius + 8 * h), reach, header->bias + 8 * h, tile, 0, hits, count);
  }
  return count;
}

// Codes of six bits of the upper eight rows of a block, and of the lower eight.
struct Rows {
  __m256i upper, lower;
};

// Eight components of a block as they are stored.
struct Packed {
  __m256i upper, lower, bits;
};

inline Packed load_packed(const uint8_t* pairs, const uint8_t* bits) { return {load(pairs), load(pairs + 32), load(bits)}; }

inline Rows first_four(const Packed& packed) {
  const __m256i high = _mm256_set1_epi8(60), low = _mm256_set1_epi8(3);
  return {_mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(packed.upper, 2), high), _mm256_and_si256(packed.bits, low)),
          _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(packed.lower, 2), high),
                          _mm256_and_si256(_mm256_srli_epi16(packed.bits, 4), low))};
}

inline Rows last_four(const Packed& packed) {
  const __m256i high = _mm256_set1_epi8(60), low = _mm256_set1_epi8(3);
  return {_mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(packed.upper, 2), high),
                          _mm256_and_si256(_mm256_srli_epi16(packed.bits, 2), low)),
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(packed.lower, 2), high),
                          _mm256_and_si256(_mm256_srli_epi16(packed.bits, 6), low))};
}

inline void store(uint8_t* at, const Rows& rows) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), rows.upper);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + 32), rows.lower);
}

template <class Sums, int queries>
inline void add_four(__m256i (&sums)[queries][2], const Rows& rows, const int8_t* query) {
#pragma GCC unroll 4
  for (int u = 0; u < queries; ++u) {
    const __m256i q = broadcast(query + 4 * u);
    sums[u][0] = Sums::add(sums[u][0], rows.upper, q);
    sums[u][1] = Sums::add(sums[u][1], rows.lower, q);
    keep_order(sums[u]);
  }
}

// `opens`: the codes are unpacked on the way, which costs nothing beside the multiplications, and the blocks that come next are fetched.
template <class Sums, int queries, bool opens>
void filter_six(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes, const Tile& tile, Hit* const* hits,
                int32_t* counts) {
  int32_t found[queries] = {};
  for (int64_t b = 0; b < blocks; ++b) {
    const uint32_t mask = mask_of(segment, first + b);
    if (!mask) continue;
    const BlockHeader* header = header_of(segment, first + b);
    const uint8_t* behind = behind_low_planes(segment, first + b);
    const auto* fine = reinterpret_cast<const FineHeader*>(behind);
    const uint8_t* pairs = reinterpret_cast<const uint8_t*>(header + 1);
    const uint8_t* bits = behind + sizeof(FineHeader);
    uint8_t* rows = codes + b * aifw::kBlockRows * segment.code_dimensions;
    const int8_t* query = tile.codes;
    const int8_t* end = query + queries * segment.code_dimensions;
    __m256i totals[queries][2];
    for (int u = 0; u < queries; ++u) totals[u][0] = totals[u][1] = _mm256_setzero_si256();
    const int32_t* run = tile.runs;
    const int32_t* centre = tile.centres;
    while (query < end) {
      __m256i sums[queries][2];
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u) sums[u][0] = sums[u][1] = Sums::begin(centre++);
      for (int32_t left = *run++; left > 0; left -= kStepsOfSix) {
#pragma GCC unroll 4
        for (int step = 0; step < kStepsOfSix; step += 2) {
          if (opens) {
            prefetch(pairs + blocks * segment.block_bytes);
            prefetch(bits + blocks * aifw::kBlockRows * segment.low_bytes);
            const Packed packed = load_packed(pairs, bits);
            const Rows first_codes = first_four(packed);
            store(rows, first_codes);
            add_four<Sums, queries>(sums, first_codes, query);
            const Rows last = last_four(packed);
            store(rows + 64, last);
            add_four<Sums, queries>(sums, last, query + 4 * queries);
            pairs += 64;
            bits += 32;
          } else {
            add_four<Sums, queries>(sums, {load(rows), load(rows + 32)}, query);
            add_four<Sums, queries>(sums, {load(rows + 64), load(rows + 96)}, query + 4 * queries);
          }
          rows += 128;
          query += 8 * queries;
        }
      }
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u)
        for (int h = 0; h < 2; ++h) totals[u][h] = Sums::widen(totals[u][h], sums[u][h]);
    }
    const __m256 reach = _mm256_set1_ps(fine->reach);
    for (int h = 0; h < 2; ++h) {
      const __m256 scale = widen(header->scale + 8 * h), radius = widen(fine->radius + 8 * h);
#pragma GCC unroll 4
      for (int u = 0; u < queries; ++u)
        found[u] = append(segment, first, static_cast<int32_t>(b * aifw::kBlockRows + 8 * h), mask >> 8 * h,
                          Sums::end(totals[u][h], tile.lift[u]), scale, radius, reach, header->bias + 8 * h, tile, u, hits[u], found[u]);
    }
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
  switch (tile.queries) {
    case 1: return filter_six_of<Sums, 1>(segment, first, blocks, codes, tile, hits, counts);
    case 2: return filter_six_of<Sums, 2>(segment, first, blocks, codes, tile, hits, counts);
    case 3: return filter_six_of<Sums, 3>(segment, first, blocks, codes, tile, hits, counts);
    default: return filter_six_of<Sums, 4>(segment, first, blocks, codes, tile, hits, counts);
  }
}

inline int32_t sum_of(__m256i words) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

template <class Sums, int kept_bits>
void refine(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums) {
  const __m256i kept = _mm256_set1_epi8(kept_bits);
  const int64_t bytes = segment.code_dimensions / 2;
  for (int32_t i = 0; i < count; ++i) {
    const uint8_t* row = low_plane(segment, row0 + hits[i].row);
    __m256i total = _mm256_setzero_si256();
    for (int64_t m = 0; m < bytes;) {
      __m256i sum = Sums::start(_mm256_setzero_si256(), _mm256_setzero_si256());
      const int64_t stop = m + 16 * kStepsOfFour < bytes ? m + 16 * kStepsOfFour : bytes;
      for (; m < stop; m += 32) {
        const __m256i both = load(row + m);
        sum = Sums::add(sum, _mm256_and_si256(both, kept), load(query + 2 * m));
        sum = Sums::add(sum, _mm256_and_si256(_mm256_srli_epi16(both, 4), kept), load(query + 2 * m + 32));
      }
      total = Sums::widen(total, sum);
    }
    sums[i] = sum_of(total);
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

template <class Sums>
constexpr aifw::Kernels table(const char* name) {
  return {name,          4,               Sums::kNarrow, filter<Sums>, refine<Sums, 15>, filter_six_tile<Sums>, refine<Sums, 3>,
          inner_product, squared_distance};
}

}  // namespace
