#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "exact.h"

namespace aifw {
namespace {

constexpr size_t kThinAbove = 8192;

}  // namespace

void Least::note(double lower, int64_t k) {
  // Nearly all that is scored later is below, and needs no lock.
  if (lower < now()) return;
  const std::lock_guard<std::mutex> guard(mutex_);
  if (static_cast<int64_t>(best_.size()) < k) {
    best_.push_back(lower);
  } else {
    if (lower <= best_.front()) return;
    std::pop_heap(best_.begin(), best_.end(), std::greater<>());
    best_.back() = lower;
  }
  std::push_heap(best_.begin(), best_.end(), std::greater<>());
  if (static_cast<int64_t>(best_.size()) < k) return;
  // Scores are rounded: rows that differ by less than that may tie, and then the smaller id comes first.
  least_.store(best_.front() - std::fabs(best_.front()) * 0x1p-48, std::memory_order_relaxed);
}

void Candidates::score(Candidate& candidate) {
  const Segment& segment = segments_[candidate.segment];
  const float* row = segment.rows + candidate.row * segment.row_floats;
  const double norm = segment.norms[candidate.row];
  // Of a sum of n products, in any order: n 2^-53 times the sum of their sizes, which Cauchy and Schwarz bound by the norms.
  const double rounding = static_cast<double>(segment.row_floats + 16) * 0x1p-52;
  ++statistics.scored;
  double merit, doubt;
  if (metric_ == kSquaredDistance) {
    merit = -kernels_.squared_distance(row, query_.values.data(), segment.row_floats);
    doubt = -merit * rounding;
  } else {
    merit = kernels_.inner_product(row, query_.values.data(), segment.row_floats);
    doubt = rounding * norm * query_.norm;
    if (metric_ == kCosine) {
      merit = norm > 0 ? merit / norm : 0;
      doubt = norm > 0 ? doubt / norm + std::fabs(merit) * 0x1p-50 : 0;
    }
  }
  candidate.upper = merit + doubt;
  candidate.lower = merit - doubt;
  candidate.state = Candidate::kScored;
  shared_.note(candidate.lower, k_);
}

void Candidates::add(int32_t segment, int64_t row, double upper) {
  if (upper < least()) return;
  all_.push_back({upper, 0, 0, segments_[segment].ids[row], row, segment, Candidate::kBounded});
  if (all_.size() >= kThinAbove + 4 * static_cast<size_t>(k_)) thin();
}

void Candidates::score(int32_t segment, int64_t row) {
  Candidate candidate = {0, 0, 0, segments_[segment].ids[row], row, segment, Candidate::kBounded};
  score(candidate);
  if (candidate.upper < least()) return;
  all_.push_back(candidate);
  if (all_.size() >= kThinAbove + 4 * static_cast<size_t>(k_)) thin();
}

void Candidates::make_exact(Candidate& candidate) {
  if (candidate.state == Candidate::kExact) return;
  const Segment& segment = segments_[candidate.segment];
  const float* row = segment.rows + candidate.row * segment.row_floats;
  const float* values = query_.values.data();
  const int64_t before = sums_of_all_bits();
  ++statistics.exact;
  if (metric_ == kSquaredDistance) {
    candidate.score = exact_squared_distance(row, values, segment.row_floats);
  } else if (metric_ == kInnerProduct) {
    candidate.score = exact_inner_product(row, values, segment.row_floats);
  } else {
    const double norms = segment.norms[candidate.row] * query_.norm;
    candidate.score = norms > 0 ? exact_inner_product(row, values, segment.row_floats) / norms : 0.0;
  }
  candidate.state = Candidate::kExact;
  statistics.summed += sums_of_all_bits() - before;
}

// Scores what is only bounded, the most promising first, and drops what cannot be among the best.
void Candidates::settle() {
  const auto hopeless = [this](const Candidate& candidate) { return candidate.upper < least(); };
  all_.erase(std::remove_if(all_.begin(), all_.end(), hopeless), all_.end());
  const auto scored = std::partition(all_.begin(), all_.end(),
                                     [](const Candidate& candidate) { return candidate.state == Candidate::kBounded; });
  std::sort(all_.begin(), scored, [](const Candidate& a, const Candidate& b) { return a.upper > b.upper; });
  for (auto each = all_.begin(); each != scored; ++each)
    if (!hopeless(*each)) score(*each);
  all_.erase(std::remove_if(all_.begin(), all_.end(), hopeless), all_.end());
}

void Candidates::thin() {
  settle();
  // What is left ties in double arithmetic, or nearly so. Exact scores have a total order, of which only the first k count.
  if (all_.size() > 2 * static_cast<size_t>(k_) + kThinAbove / 2) finish();
}

void Candidates::finish() {
  settle();
  for (Candidate& candidate : all_) make_exact(candidate);
  const bool ascending = metric_ == kSquaredDistance;
  const auto before = [ascending](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return ascending ? a.score < b.score : a.score > b.score;
    return a.id < b.id;
  };
  const auto kept = std::min(all_.size(), static_cast<size_t>(k_));
  std::partial_sort(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(kept), all_.end(), before);
  all_.resize(kept);
}

void Candidates::take(Candidates& other) {
  for (const Candidate& candidate : other.all_)
    if (candidate.upper >= least()) all_.push_back(candidate);
  other.clear();
}

void Candidates::clear() {
  std::vector<Candidate>().swap(all_);
}

}  // namespace aifw
