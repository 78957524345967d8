#include "dispatch.h"

#include <atomic>
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define AIFW_TEXT_OF(x) #x
#define AIFW_TEXT(x) AIFW_TEXT_OF(x)

namespace aifw {
namespace {

// The build defines AIFW_HAS_* for each file that it compiles.
const Kernels* const kTables[kLevels] = {
    &kScalar,
#ifdef AIFW_HAS_AVX2
    &kAvx2,
#else
    nullptr,
#endif
#ifdef AIFW_HAS_AVXVNNI
    &kAvxVnni,
#else
    nullptr,
#endif
#ifdef AIFW_HAS_AVX512
    &kAvx512,
#else
    nullptr,
#endif
#ifdef AIFW_HAS_AVX512VNNI
    &kAvx512Vnni,
#else
    nullptr,
#endif
};

const char* const kNames[kLevels] = {"scalar", "avx2", "avxvnni", "avx512", "avx512vnni"};

constexpr uint32_t bit(int n) { return uint32_t{1} << n; }

// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID; volume 1, sections 13.3 and 14.3.
constexpr uint32_t kOsXsave = bit(27);                                   // leaf 1 ecx
constexpr uint32_t kAvx = bit(28) | bit(23);                             // leaf 1 ecx; with POPCNT, which compilers infer
constexpr uint32_t kAvx2Bit = bit(5);                                    // leaf 7 ebx
constexpr uint32_t kAvx512Bits = bit(16) | bit(17) | bit(30) | bit(31);  // leaf 7 ebx: F, DQ, BW, VL
constexpr uint32_t kAvx512VnniBit = bit(11);                             // leaf 7 ecx
constexpr uint32_t kAvxVnniBit = bit(4);                                 // leaf 7.1 eax
constexpr uint64_t kSavesYmm = bit(1) | bit(2);                          // xcr0
constexpr uint64_t kSavesZmm = kSavesYmm | bit(5) | bit(6) | bit(7);     // with mask registers, both halves of zmm

bool has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

std::atomic<const Kernels*> current{nullptr};

int best_level(const Registers& registers) {
  for (int level = kLevels - 1; level > 0; --level)
    if (kTables[level] && supports(registers, level)) return level;
  return 0;
}

}  // namespace

const char* level_name(int level) { return kNames[level]; }

bool level_built(int level) { return kTables[level] != nullptr; }

bool level_usable(int level) { return level_built(level) && supports(read_registers(), level); }

bool supports(const Registers& registers, int level) {
  if (level == 0) return true;
  const bool ymm = has(registers.leaf1_ecx, kOsXsave | kAvx) && has(registers.xcr0, kSavesYmm);
  const bool avx2 = ymm && has(registers.leaf7_ebx, kAvx2Bit);
  const bool avx512 = avx2 && has(registers.leaf7_ebx, kAvx512Bits) && has(registers.xcr0, kSavesZmm);
  switch (level) {
    case 1: return avx2;
    case 2: return avx2 && has(registers.leaf7_1_eax, kAvxVnniBit);
    case 3: return avx512;
    case 4: return avx512 && has(registers.leaf7_ecx, kAvx512VnniBit);
    default: return false;
  }
}

Registers read_registers() {
  Registers found = {};
#if defined(__x86_64__)
  uint32_t eax, ebx, ecx, edx;
  __cpuid(0, eax, ebx, ecx, edx);
  const uint32_t leaves = eax;
  __cpuid(1, eax, ebx, ecx, edx);
  found.leaf1_ecx = ecx;
  if (has(ecx, kOsXsave)) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    found.xcr0 = uint64_t{high} << 32 | low;
  }
  if (leaves >= 7) {
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    const uint32_t subleaves = eax;
    found.leaf7_ebx = ebx;
    found.leaf7_ecx = ecx;
    if (subleaves >= 1) {
      __cpuid_count(7, 1, eax, ebx, ecx, edx);
      found.leaf7_1_eax = eax;
    }
  }
#endif
  return found;
}

const Kernels& active() {
  const Kernels* kernels = current.load(std::memory_order_acquire);
  if (!kernels) {
    const Kernels* best = kTables[best_level(read_registers())];
    // Another thread may have selected a level in the meantime.
    if (current.compare_exchange_strong(kernels, best, std::memory_order_acq_rel)) kernels = best;
  }
  return *kernels;
}

bool select(const char* name) {
  for (int level = 0; level < kLevels; ++level)
    if (std::strcmp(name, kNames[level]) == 0 && level_usable(level)) {
      current.store(kTables[level], std::memory_order_release);
      return true;
    }
  return false;
}

const char* compiler() {
#if defined(__clang__)
  return "clang " AIFW_TEXT(__clang_major__) "." AIFW_TEXT(__clang_minor__) "." AIFW_TEXT(__clang_patchlevel__);
#elif defined(__GNUC__)
  return "gcc " AIFW_TEXT(__GNUC__) "." AIFW_TEXT(__GNUC_MINOR__) "." AIFW_TEXT(__GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

}  // namespace aifw
