// What the search kernel reads: plain data, no code, so that every instruction set's file may include it.
//
// A row of `dimensions` floats is kept three times, each copy finer than the one before (PROOF.md has the inequalities):
//   codes    4 bits a component, in blocks of 16 rows; a search reads all of them
//   low      4 bits more, row by row; read for rows the codes could not rule out
//   rows     the floats themselves; read for the few rows left
#pragma once
#include <cstdint>

namespace aifw {

constexpr int64_t kBlockRows = 16;   // rows of a block
constexpr int64_t kCodeAlign = 64;   // codes are stored for dimensions rounded up to this; the added components are zero
constexpr int64_t kRowAlign = 16;    // floats are stored for dimensions rounded up to this; the added ones are zero
constexpr int64_t kHeaderBytes = 128;  // of a block: what the bound needs of each row
constexpr int kTileQueries = 4;      // queries filtered together

enum Metric : int32_t { kInnerProduct = 0, kCosine = 1, kSquaredDistance = 2 };

// A block is a header and then, for every eight dimensions g, 64 bytes: byte 4 r + j holds component 8 g + j of row r in its low
// half and component 8 g + 4 + j in its high half, as 0 ... 15 standing for scale[r] * (code - 7.5).
struct BlockHeader {
  uint16_t scale[16];   // bfloat16, exact
  uint16_t radius[16];  // bfloat16, rounded up: norm of what the codes leave out
  float bias[16];       // added to the bound: for squared distance at least -|x|^2 / 2, else 0
};
static_assert(sizeof(BlockHeader) == kHeaderBytes);

// A row's low plane is `code_dimensions / 2` bytes: of every 64 components, byte i holds component i in its low half and
// component 32 + i in its high half, as 0 ... 15 standing for scale / 16 * (code - 7.5).

// Rows of an index that lie together in memory. Only whole blocks are encoded; the up to 15 rows behind them are scored as they are.
struct Segment {
  int64_t dimensions;       // of a vector
  int64_t row_floats;       // from one row of `rows` to the next
  int64_t code_dimensions;  // dimensions rounded up to kCodeAlign
  int64_t block_bytes;      // from one block to the next
  int64_t count;            // rows
  const float* rows;        // count x row_floats
  const uint8_t* blocks;    // (count / 16) x block_bytes, aligned to 64
  const uint8_t* low;       // (count / 16 * 16) x code_dimensions / 2, aligned to 32
  const float* reach;       // per block: at least the norm of any of its rows' coded part, scale * (code - 7.5)
  const float* fine;        // per encoded row: at least the norm of what codes and low plane leave out
  const double* norms;      // per row: its Euclidean norm, rounded once
  const int64_t* ids;       // per row
  const uint16_t* mask;     // per block, one bit a row: whether it may be found; null if all may. Covers the rows behind the blocks, too
  double largest;           // at least every row's norm
};

// Up to four queries as the filter sees them.
struct Tile {
  int32_t queries;           // 1 ... kTileQueries
  int32_t biased;            // whether BlockHeader::bias counts
  const int8_t* codes;       // for every eight dimensions g and query u, 8 bytes at 8 (g * queries + u): codes -127 ... 127
  int32_t offset[kTileQueries];   // 15 * sum of the query's codes
  float scale[kTileQueries];      // half the query's scale
  float norm[kTileQueries];       // multiplies the radius of a row
  float error[kTileQueries];      // multiplies the reach of a block
  float threshold[kTileQueries];  // rows whose bound is below are left out
};

struct Hit {
  int32_t row;  // within the segment, from the first block of the call
  int32_t dot;  // sum of code * query code
};

// What one instruction set provides.
struct Kernels {
  const char* name;

  // Of `blocks` blocks from `first`, every row whose bound is not below the threshold, in order, for each query of the tile. The
  // bound is
  //     (float)(2 dot - offset) * (row scale * scale) + (radius * norm + reach * error) [+ bias]
  // in float arithmetic, each operation rounded for itself, from left to right. Rows the mask leaves out are no hits. Each list
  // has room for every row.
  void (*filter)(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* const* hits, int32_t* counts);

  // For each hit, the sum of low-plane code * query code. `rows` is where row 0 of the hits lies in the segment.
  void (*refine)(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums);

  // Inner product and squared distance in double arithmetic, summed in any order. `floats` is a multiple of kRowAlign.
  double (*inner_product)(const float* x, const float* y, int64_t floats);
  double (*squared_distance)(const float* x, const float* y, int64_t floats);
};

}  // namespace aifw
