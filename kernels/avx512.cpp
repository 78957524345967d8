// AVX-512 F, BW, DQ and VL: products of codes are summed in 16 bits for a few steps and then in 32.
#include "avx512.h"

namespace {

struct Sums {
  static constexpr bool kNarrow = true;

  static inline __m512i add(__m512i sums, __m512i codes, __m512i query) {
    return _mm512_add_epi16(sums, _mm512_maddubs_epi16(codes, query));
  }

  static inline __m512i widen(__m512i totals, __m512i sums) {
    return _mm512_add_epi32(totals, _mm512_madd_epi16(sums, _mm512_set1_epi16(1)));
  }
};

}  // namespace

namespace aifw {

const Kernels kAvx512 = table<Sums>("avx512");

}
