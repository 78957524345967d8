// Where the parts of a block lie, for the files of instruction sets: private to each file that includes it, like their templates.
#pragma once
#include "layout.h"

namespace {

inline uint32_t mask_of(const aifw::Segment& segment, int64_t block) {
  return segment.mask ? __atomic_load_n(segment.mask + block, __ATOMIC_RELAXED) : 0xffff;
}

inline const aifw::BlockHeader* header_of(const aifw::Segment& segment, int64_t block) {
  return reinterpret_cast<const aifw::BlockHeader*>(segment.blocks + block * segment.block_bytes);
}

// The FineHeader, and then the bits.
inline const uint8_t* behind_low_planes(const aifw::Segment& segment, int64_t block) {
  return segment.low + aifw::kBlockRows * (block * segment.low_bytes + segment.code_dimensions / 2);
}

inline const uint8_t* low_plane(const aifw::Segment& segment, int64_t row) {
  const int64_t lane = row % aifw::kBlockRows;
  return segment.low + (row - lane) * segment.low_bytes + lane * (segment.code_dimensions / 2);
}

}  // namespace
