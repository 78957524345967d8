// AVX-512 F, BW, DQ and VL: products of codes are summed in 16 bits for eight steps and then in 32.
#include "avx512.h"

namespace {

struct Sum {
  __m512i total;
  __m512i pairs;

  void add(__m512i codes, __m512i query) {
    pairs = _mm512_add_epi16(pairs, _mm512_maddubs_epi16(codes, query));
    keep_order(pairs);
  }

  void widen() {
    total = _mm512_add_epi32(total, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    pairs = _mm512_setzero_si512();
  }
};

}  // namespace

namespace aifw {

const Kernels kAvx512 = {"avx512", filter_tile<Sum>, refine<Sum>, inner_product, squared_distance};

}
