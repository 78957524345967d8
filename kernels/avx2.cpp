// AVX2: products of codes are summed in 16 bits for some steps and then in 32. Both multiply, so that the fewer times the better.
#include "avx256.h"

namespace {

struct Sums {
  static constexpr bool kNarrow = true;

  static inline __m256i start(__m256i codes, __m256i query) { return _mm256_maddubs_epi16(codes, query); }

  static inline __m256i add(__m256i sums, __m256i codes, __m256i query) {
    return _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, query));
  }

  static inline __m256i widen(__m256i totals, __m256i sums) {
    return _mm256_add_epi32(totals, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
  }

  // Of a run of codes less 32, of which any part fits 16 bits.
  static inline __m256i begin(const int32_t* centre) { return _mm256_set1_epi32(*centre); }

  static inline __m256i end(__m256i totals, int32_t lift) { return _mm256_add_epi32(totals, _mm256_set1_epi32(lift)); }
};

}  // namespace

namespace aifw {

const Kernels kAvx2 = table<Sums>("avx2");

}
