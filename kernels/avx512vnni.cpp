// AVX-512 F, BW, DQ, VL and VNNI: one instruction multiplies and sums four codes in 32 bits.
#include "avx512.h"

namespace {

struct Sum {
  __m512i total;

  void add(__m512i codes, __m512i query) {
    total = _mm512_dpbusd_epi32(total, codes, query);
    keep_order(total);
  }

  void widen() {}
};

}  // namespace

namespace aifw {

const Kernels kAvx512Vnni = {"avx512vnni", filter_tile<Sum>, refine<Sum>, inner_product, squared_distance};

}
