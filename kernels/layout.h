// What the search kernel reads: plain data, no code, so that every instruction set's file may include it.
//
// A row of `dimensions` floats is kept three times, each copy finer than the one before (PROOF.md has the inequalities):
//   codes    4 bits a component, in blocks of 16 rows; a search for one query reads all of them
//   low      4 bits more, row by row; read for rows the codes could not rule out. The first two of these bits stand a second time
//            in the order of the codes: a search for several queries, which computes more than it reads, begins with 6 bits
//   rows     the floats themselves; read for the few rows left
#pragma once
#include <cstdint>

namespace aifw {

constexpr int64_t kMaximumDimensions = 65536;  // PROOF.md counts roundings and sizes up to here
constexpr int64_t kBlockRows = 16;   // rows of a block
constexpr int64_t kCodeAlign = 64;   // codes are stored for dimensions rounded up to this; the added components are zero
constexpr int64_t kRowAlign = 16;    // floats are stored for dimensions rounded up to this; the added ones are zero
constexpr int64_t kHeaderBytes = 128;  // of a block: what the bound needs of each row
constexpr int kTileQueries = 8;        // queries filtered together, at most
constexpr int kStepsOfARun = 8;        // of four components: runs are multiples of this

enum Metric : int32_t { kInnerProduct = 0, kCosine = 1, kSquaredDistance = 2 };

// A block is a header and then, for every eight dimensions g, 64 bytes: byte 4 r + j holds component 8 g + j of row r in its low
// half and component 8 g + 4 + j in its high half, as 0 ... 15 standing for scale[r] * (code - 7.5).
struct BlockHeader {
  uint16_t scale[16];   // bfloat16, exact
  uint16_t radius[16];  // bfloat16, rounded up: norm of what the codes leave out
  float bias[16];       // added to the bound: for squared distance at least -|x|^2 / 2, else 0
};
static_assert(sizeof(BlockHeader) == kHeaderBytes);

// Behind the low planes of a block's 16 rows stand a header and the first two bits of each low code once more: for every eight
// dimensions g 32 bytes. Bits 2 t and 2 t + 1 of byte 4 (r % 8) + j belong to row r and component 8 g + 4 (t % 2) + j, where t / 2 is
// r / 8. With them, scale / 4 * (4 code + bits - 31.5) is the component.
struct FineHeader {
  uint16_t radius[16];  // bfloat16, rounded up: norm of what the six bits leave out
  float reach;          // at least the norm of any of the rows' part coded in six bits
  float unused[7];
};
static_assert(sizeof(FineHeader) == 64);

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
  int64_t low_bytes;        // a row's share of the low planes and what stands behind them; a block has 16 times that
  const uint8_t* low;       // (count / 16 * 16) x low_bytes
  const float* reach;       // per block: at least the norm of any of its rows' coded part, scale * (code - 7.5)
  const float* fine;        // per encoded row: at least the norm of what codes and low plane leave out
  const double* norms;      // per row: its Euclidean norm, rounded once
  const int64_t* ids;       // per row
  const uint16_t* mask;     // per block, one bit a row: whether it may be found; null if all may. Covers the rows behind the blocks, too.
                            // It must gain no bit while a search runs: a block without any is not unpacked
  double largest;           // at least every row's norm
};

// Up to `tile_queries` queries as a filter sees them. The numbers in parentheses are those of filter_six.
struct Tile {
  int32_t queries;                // 1 ... kTileQueries
  int32_t biased;                 // whether BlockHeader::bias counts
  int32_t opens;                  // whether filter_six has to unpack the codes first
  int32_t closes;                 // whether no other tile will read what it unpacks, which need not be written then
  const int8_t* codes;            // for every four dimensions p and query u, 4 bytes at 4 (p * queries + u): codes -127 ... 127 (-63 ... 63
                                  // where `narrow`)
  int32_t offset[kTileQueries];   // 15 (63) times the sum of the query's codes
  float scale[kTileQueries];      // half (an eighth) of the query's scale
  float norm[kTileQueries];       // multiplies the radius of a row
  float error[kTileQueries];      // multiplies the reach of a block
  float threshold[kTileQueries];  // rows whose bound is below are left out
  // For filter_six: steps of four components that it may sum before it widens, all in one unless `narrow`. Where it is, what is summed
  // are the codes of the rows less 32; for every run and query minus 32 times the sum of its first two codes of every four and that of
  // the last two, 16 bits each, to begin the sums with; and what is to be added in the end, 32 times the sum of all codes.
  const int32_t* runs;
  const int32_t* centres;
  int32_t lift[kTileQueries];
};

struct Hit {
  int32_t row;  // from the first row of the call
  int32_t dot;  // sum of code * query code
};

// What one instruction set provides.
struct Kernels {
  const char* name;
  int32_t tile_queries;  // of filter_six, at most
  bool narrow;           // whether filter_six sums products in 16 bits: query codes are at most 63 in size then

  // Of `blocks` blocks from `first`, every row whose bound is not below the threshold of the one query, in order. The bound is
  //     (float)(2 dot - offset) * (row scale * scale) + (radius * norm + reach * error) [+ bias]
  // in float arithmetic, each operation rounded for itself, from left to right. Rows the mask leaves out are no hits. The list
  // has room for every row. Returns how many there are.
  int32_t (*filter)(const Segment& segment, int64_t first, int64_t blocks, const Tile& tile, Hit* hits);

  // For each hit, the sum of low code * query code. The hits' rows are counted from row0.
  void (*refine)(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums);

  // Like filter, for all queries of the tile, with six bits and radius and reach of FineHeader: hits and counts of each. `codes` has
  // room for codes of six bits, 4 code + bits, a byte each: 16 * code_dimensions a block, of which byte 64 p + 4 r + j is that of row r
  // and component 4 p + j. The first tile of each range of blocks `opens` it and writes them, unless it `closes` it,
  // too; a block with no bit in its mask may be left out. The first blocks behind the range should be on their way into the cache by
  // then.
  void (*filter_six)(const Segment& segment, int64_t first, int64_t blocks, uint8_t* codes, const Tile& tile, Hit* const* hits,
                     int32_t* counts);

  // Like refine, with the last two bits of the low codes only.
  void (*refine_six)(const Segment& segment, int64_t row0, const int8_t* query, const Hit* hits, int32_t count, int32_t* sums);

  // Inner product and squared distance in double arithmetic, summed in any order. `floats` is a multiple of kRowAlign.
  double (*inner_product)(const float* x, const float* y, int64_t floats);
  double (*squared_distance)(const float* x, const float* y, int64_t floats);
};

}  // namespace aifw
