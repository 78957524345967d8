// Runs of query codes that 16 bits can sum, for kernels that sum so; the others take all codes in one. Plain loops, so that the
// comparison of kernels may use them.
#pragma once
#include "layout.h"

namespace aifw {

// A code of six bits less 32 is at most 32 in size: of query codes whose sizes add up to no more than this, the sum of products fits
// 16 bits.
constexpr int32_t kMostOfARun = 32767 / 32;
static_assert(2 * kStepsOfARun * 63 <= kMostOfARun, "the shortest run always fits");

// Fills the lists of a tile, which have room for `dimensions` / 32 runs: as long as they may be for all of its queries.
inline void make_runs(bool narrow, Tile& tile, int64_t dimensions, int32_t* runs, int32_t* centres) {
  constexpr int kLanes = 2 * kTileQueries;
  const int lanes = 2 * tile.queries;
  int32_t most[kLanes] = {}, sums[kLanes] = {};
  tile.runs = runs;
  tile.centres = centres;
  for (int32_t& each : tile.lift) each = 0;
  if (!narrow) {
    *runs = static_cast<int32_t>(dimensions / 4);
    for (int u = 0; u < tile.queries; ++u) centres[u] = 0;
    return;
  }
  const int64_t bytes = 4 * kStepsOfARun * tile.queries;
  const int8_t* codes = tile.codes;
  *runs = 0;
  for (int64_t first = 0; first < dimensions; first += 4 * kStepsOfARun, codes += bytes) {
    int32_t sizes[kLanes] = {}, here[kLanes] = {};
    for (int64_t i = 0; i < bytes; i += 2 * lanes)
      for (int lane = 0; lane < lanes; ++lane) {
        const int32_t a = codes[i + 2 * lane], b = codes[i + 2 * lane + 1];
        sizes[lane] += (a < 0 ? -a : a) + (b < 0 ? -b : b);
        here[lane] += a + b;
      }
    bool fits = true;
    for (int lane = 0; lane < lanes; ++lane) fits &= most[lane] + sizes[lane] <= kMostOfARun;
    if (!fits) {
      ++runs;
      centres += tile.queries;
      *runs = 0;
    }
    *runs += kStepsOfARun;
    for (int lane = 0; lane < lanes; ++lane) {
      most[lane] = sizes[lane] + (fits ? most[lane] : 0);
      sums[lane] = here[lane] + (fits ? sums[lane] : 0);
      tile.lift[lane / 2] += 32 * here[lane];
    }
    for (int u = 0; u < tile.queries; ++u) {
      const int16_t pair[2] = {static_cast<int16_t>(-32 * sums[2 * u]), static_cast<int16_t>(-32 * sums[2 * u + 1])};
      __builtin_memcpy(centres + u, pair, sizeof pair);
    }
  }
}

}  // namespace aifw
