// The rows that may be among a query's best, and how good a row must be to join them.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include "layout.h"
#include "query.h"
#include "search.h"

namespace aifw {

// Rows are compared by merit: the inner product, that over the norm of the row (cosine), or minus the squared distance. Bounds
// of a merit are doubles; the order of results is that of the exact scores.
struct Candidate {
  enum State : uint8_t { kBounded, kScored, kExact };
  double upper;      // the merit is at most this
  double lower;      // and at least this, once scored
  double score;      // once exact
  int64_t id;
  int64_t row;
  int32_t segment;
  State state;
};

// What a row must reach to be among the k best for one query, by all rows that any thread has scored so far.
class Least {
 public:
  // Rows whose merit is below this cannot be among the best. It only ever rises.
  double now() const { return least_.load(std::memory_order_relaxed); }

  // A row was scored whose merit is at least this.
  void note(double lower, int64_t k);

  // Gives the memory back, once nothing is to be noted any more.
  void clear() { std::vector<double>().swap(best_); }

 private:
  std::atomic<double> least_{-std::numeric_limits<double>::infinity()};
  std::mutex mutex_;
  std::vector<double> best_;  // heap of the k largest lower bounds, the smallest on top
};

// One query's candidates among some of the rows.
class Candidates {
 public:
  Candidates(const Query& query, const std::vector<Segment>& segments, const Kernels& kernels, Metric metric, int64_t k,
             Least& shared)
      : query_(query), segments_(segments), kernels_(kernels), metric_(metric), k_(k), shared_(shared) {}

  double least() const { return shared_.now(); }

  // Enters a row known by a bound of its merit.
  void add(int32_t segment, int64_t row, double upper);

  // Scores a row from its floats in double arithmetic, and enters it if it may be among the best.
  void score(int32_t segment, int64_t row);

  // Leaves the k best, exactly scored and in order; fewer if fewer were entered.
  void finish();

  // Takes over what another has, which searched other rows, and clears that.
  void take(Candidates& other);

  const std::vector<Candidate>& best() const { return all_; }

  // Gives the memory back; the statistics stay.
  void clear();

  Statistics statistics;

 private:
  void score(Candidate& candidate);
  void make_exact(Candidate& candidate);
  void settle();
  void thin();

  const Query& query_;
  const std::vector<Segment>& segments_;
  const Kernels& kernels_;
  Metric metric_;
  int64_t k_;
  Least& shared_;
  std::vector<Candidate> all_;
};

}  // namespace aifw
