// Vectors into codes, with the norms that bound what the codes leave out. PROOF.md names each inequality used here.
#include "encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bounds.h"
#include "exact.h"
#include "threads.h"

namespace aifw {
namespace {

// The smallest bfloat16 not below a positive value; infinity if there is none.
uint16_t bfloat_up(double value) {
  const float single = round_up(value);
  uint32_t bits;
  std::memcpy(&bits, &single, sizeof bits);
  return static_cast<uint16_t>((bits + 0xffff) >> 16);
}

int code_of(double steps) { return std::clamp(static_cast<int>(std::floor(steps)), 0, 15); }

struct Coded {
  uint16_t scale, radius, radius_fine;
  double reach, reach_fine, fine;
};

// Codes of one row: `high` and `low` get one code a component, code_dimensions of them.
Coded code_row(const float* row, double norm, Metric metric, int64_t dimensions, int64_t padded, uint8_t* high, uint8_t* low) {
  const bool unit = metric == kCosine && norm > 0;
  const double divisor = unit ? norm : 1;
  double largest = 0;
  for (int64_t j = 0; j < dimensions; ++j) largest = std::max(largest, std::fabs(static_cast<double>(row[j])));
  Coded coded;
  coded.scale = bfloat_up(std::max(largest / divisor / 8, kFloor));
  const double scale = bfloat_value(coded.scale);
  double left = 0, left_six = 0, left_fine = 0;
  int64_t reach = 0, reach_six = 0;
  for (int64_t j = 0; j < dimensions; ++j) {
    const double value = row[j] / divisor;
    const int code = code_of(value / scale + 8);
    const double rest = value - scale * (code - 7.5);
    const int fine = code_of(16 * rest / scale + 8);
    const int six = 4 * code + (fine >> 2);
    // From the component itself, not from `rest`: each is then rounded once.
    const double rest_six = value - scale / 4 * (six - 31.5);
    const double rest_fine = value - scale / 16 * (16 * code + fine - 127.5);
    left += rest * rest;
    left_six += rest_six * rest_six;
    left_fine += rest_fine * rest_fine;
    reach += (2 * code - 15) * (2 * code - 15);
    reach_six += (2 * six - 63) * (2 * six - 63);
    high[j] = static_cast<uint8_t>(code);
    low[j] = static_cast<uint8_t>(fine);
  }
  // Components beyond the vector have code 0 here, but code 0 of the query, too: they add nothing to any sum.
  std::memset(high + dimensions, 0, padded - dimensions);
  std::memset(low + dimensions, 0, padded - dimensions);
  // Dividing by the norm rounds twice, which moves a unit vector by at most 2^-51.
  const double moved = unit ? 0x1p-50 : 0;
  coded.radius = bfloat_up(std::max(std::sqrt(left) * kInflate + moved, kFloor));
  coded.radius_fine = bfloat_up(std::max(std::sqrt(left_six) * kInflate + moved, kFloor));
  coded.fine = std::max(std::sqrt(left_fine) * kInflate + moved, kFloor);
  coded.reach = std::max(scale / 2 * std::sqrt(static_cast<double>(reach)) * kInflate, kFloor);
  coded.reach_fine = std::max(scale / 8 * std::sqrt(static_cast<double>(reach_six)) * kInflate, kFloor);
  return coded;
}

// At least -|x|^2 / 2, with room for the rounding of the sum it is added to.
float bias_of(double norm) {
  const double bias = -0.5 * norm * norm * (1 - 0x1p-19);
  return bias < -std::numeric_limits<float>::max() ? -std::numeric_limits<float>::max() : round_up(bias);
}

void encode_block(const SegmentArrays& segment, Metric metric, int64_t block, std::vector<uint8_t>& scratch) {
  const int64_t padded = segment.code_dimensions;
  scratch.resize(2 * padded);
  uint8_t* high = scratch.data();
  uint8_t* low = high + padded;
  uint8_t* out = segment.blocks + block * segment.block_bytes;
  uint8_t* planes = segment.low + block * kBlockRows * segment.low_bytes;
  uint8_t* bits = planes + kBlockRows * padded / 2 + sizeof(FineHeader);
  std::memset(bits, 0, 4 * padded);
  BlockHeader header;
  FineHeader fine_header = {};
  double reach = 0, reach_fine = 0;
  for (int64_t r = 0; r < kBlockRows; ++r) {
    const int64_t row = block * kBlockRows + r;
    const double norm = segment.norms[row];
    const Coded coded =
        code_row(segment.rows + row * segment.row_floats, norm, metric, segment.dimensions, padded, high, low);
    header.scale[r] = coded.scale;
    header.radius[r] = coded.radius;
    header.bias[r] = metric == kSquaredDistance ? bias_of(norm) : 0;
    reach = std::max(reach, coded.reach);
    fine_header.radius[r] = coded.radius_fine;
    reach_fine = std::max(reach_fine, coded.reach_fine);
    segment.fine[row] = round_up(coded.fine);
    uint8_t* codes = out + kHeaderBytes + 4 * r;
    for (int64_t g = 0; g < padded / 8; ++g)
      for (int j = 0; j < 4; ++j) codes[64 * g + j] = static_cast<uint8_t>(high[8 * g + j] | high[8 * g + 4 + j] << 4);
    uint8_t* plane = planes + r * padded / 2;
    for (int64_t m = 0; m < padded / 64; ++m)
      for (int i = 0; i < 32; ++i)
        plane[32 * m + i] = static_cast<uint8_t>(low[64 * m + i] | low[64 * m + 32 + i] << 4);
    for (int64_t g = 0; g < padded / 8; ++g)
      for (int c = 0; c < 8; ++c) {
        const int t = 2 * static_cast<int>(r / 8) + c / 4;
        bits[32 * g + 4 * (r % 8) + c % 4] |= static_cast<uint8_t>(low[8 * g + c] >> 2 << 2 * t);
      }
  }
  fine_header.reach = round_up(reach_fine);
  std::memcpy(planes + kBlockRows * padded / 2, &fine_header, sizeof fine_header);
  segment.reach[block] = round_up(reach);
  std::memcpy(out, &header, sizeof header);
}

}  // namespace

int64_t row_floats(int64_t dimensions) { return (dimensions + kRowAlign - 1) / kRowAlign * kRowAlign; }
int64_t code_dimensions(int64_t dimensions) { return (dimensions + kCodeAlign - 1) / kCodeAlign * kCodeAlign; }
int64_t block_bytes(int64_t dimensions) { return kHeaderBytes + 8 * code_dimensions(dimensions); }
int64_t low_bytes(int64_t dimensions) {
  return code_dimensions(dimensions) * 3 / 4 + static_cast<int64_t>(sizeof(FineHeader)) / kBlockRows;
}

int64_t find_not_finite(const float* rows, int64_t count, int64_t dimensions, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    const float* row = rows + i * stride;
    // A product with zero is not a number just for what is not finite, and sums keep it.
    float sum = 0;
    for (int64_t j = 0; j < dimensions; ++j) sum += row[j] * 0.0f;
    if (sum != 0) return i;
  }
  return -1;
}

double encode(const SegmentArrays& segment, Metric metric, int64_t first, int64_t last, int threads) {
  constexpr int64_t kStep = 64 * kBlockRows;
  const int64_t start = first / kBlockRows * kBlockRows;
  const int64_t tasks = (last - start + kStep - 1) / kStep;
  std::vector<double> largest(std::max<int64_t>(tasks, 0), 0.0);
  run_parallel(threads, {}, tasks, [&](int64_t task) {
    const int64_t from = start + task * kStep, to = std::min(last, from + kStep);
    for (int64_t row = std::max(first, from); row < to; ++row) {
      segment.norms[row] = exact_norm(segment.rows + row * segment.row_floats, segment.row_floats);
      largest[task] = std::max(largest[task], segment.norms[row]);
    }
    std::vector<uint8_t> scratch;
    for (int64_t block = from / kBlockRows; block < to / kBlockRows; ++block) encode_block(segment, metric, block, scratch);
  });
  double most = 0;
  for (double each : largest) most = std::max(most, each);
  return most * (1 + 0x1p-50);
}

}  // namespace aifw
