// AVX-512 F, BW, DQ, VL and VNNI: one instruction multiplies and sums four codes in 32 bits.
#include "avx512.h"

namespace {

struct Sums {
  static constexpr bool kNarrow = false;

  static inline __m512i add(__m512i sums, __m512i codes, __m512i query) {
    return _mm512_dpbusd_epi32(sums, codes, query);
  }

  static inline __m512i widen(__m512i totals, __m512i sums) { return _mm512_add_epi32(totals, sums); }
};

}  // namespace

namespace aifw {

const Kernels kAvx512Vnni = table<Sums>("avx512vnni");

}
