// Stands before the compiler's own header of this name when a kernel is compiled for a processor that lacks its
// instructions: SIMDe (github.com/simd-everywhere/simde) then computes what they would.
#ifndef AIFW_SIMDE
#define AIFW_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// AVX-VNNI has the same operation under another name.
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32

#ifndef _mm512_cvtps_pd  // SIMDe 0.8 lacks it
#define _mm512_cvtps_pd widen_all
static inline simde__m512d widen_all(simde__m256 floats) {
  const simde__m256d first = simde_mm256_cvtps_pd(simde_mm256_castps256_ps128(floats));
  const simde__m256d second = simde_mm256_cvtps_pd(simde_mm256_extractf128_ps(floats, 1));
  return simde_mm512_insertf64x4(simde_mm512_castpd256_pd512(first), second, 1);
}
#endif

#define AIFW_SIMDE_COMPLETE
#elif !defined(AIFW_SIMDE_COMPLETE)
// SIMDe itself asks for what the processor has.
#include_next <immintrin.h>
#endif
