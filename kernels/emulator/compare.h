// A test of one table of kernels against the scalar one. It needs no library, so it also runs without an operating
// system.
#pragma once
#include "../kernels.h"

namespace aifw {

using Print = void (*)(const char* text);

// Runs both tables over `rounds` random cases drawn from the seed, with 23 checks each: filters, unpacked codes and
// refinements must agree bit for bit, the double sums within what rounding explains. Prints the first differences and
// then one line,
//     <name>: <n> checks, <m> differences
// Returns the number of differences.
int compare(const Kernels& tested, uint32_t seed, int rounds, Print print);

}  // namespace aifw
