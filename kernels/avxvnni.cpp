// AVX2 and AVX-VNNI: one instruction multiplies and sums four codes in 32 bits.
#include "avx256.h"

namespace {

struct Sums {
  static constexpr bool kNarrow = false;

  static inline __m256i start(__m256i codes, __m256i query) { return add(_mm256_setzero_si256(), codes, query); }

  static inline __m256i add(__m256i sums, __m256i codes, __m256i query) {
    return _mm256_dpbusd_avx_epi32(sums, codes, query);
  }

  static inline __m256i widen(__m256i totals, __m256i sums) { return _mm256_add_epi32(totals, sums); }

  static inline __m256i begin(const int32_t*) { return _mm256_setzero_si256(); }

  static inline __m256i end(__m256i totals, int32_t) { return totals; }
};

}  // namespace

namespace aifw {

const Kernels kAvxVnni = table<Sums>("avxvnni");

}
