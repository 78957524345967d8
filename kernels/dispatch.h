// Which instruction sets there are, which of them this machine can run, and which one is in use.
#pragma once
#include "layout.h"

namespace aifw {

// What the processor and the operating system say of themselves. A register of a leaf that the processor lacks is zero.
struct Registers {
  uint32_t leaf1_ecx;    // CPUID 1
  uint32_t leaf7_ebx;    // CPUID 7, subleaf 0
  uint32_t leaf7_ecx;    // CPUID 7, subleaf 0
  uint32_t leaf7_1_eax;  // CPUID 7, subleaf 1
  uint64_t xcr0;         // XGETBV 0: register files that the operating system saves; zero without OSXSAVE
};

// Levels are numbered from the most modest.
constexpr int kLevels = 5;

const char* level_name(int level);
bool level_built(int level);
bool level_usable(int level);  // built, and supported here

// Whether a machine with these registers can run a level. Pure.
bool supports(const Registers& registers, int level);

// Those of this machine. All zero on other architectures than x86-64.
Registers read_registers();

// The kernels in use: the highest usable level, until another one is selected. May be called by any thread.
const Kernels& active();

// Use another level. False, and nothing changes, if it is not usable. A search that is running stays with its kernels.
bool select(const char* name);

// Compiler and version.
const char* compiler();

}  // namespace aifw
