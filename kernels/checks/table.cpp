// The table of ids beside a standard map, with ids that are consecutive, far apart, or alike in some of their bits. Meant to be
// compiled with -fsanitize=address,undefined; prints how many operations agreed.
#include "ids.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <unordered_map>
#include <unordered_set>

namespace {

int64_t operations = 0;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

class Beside {
 public:
  Beside(uint64_t seed, int spread, int64_t range) : random_(seed), spread_(spread), range_(range) {}

  void run(int steps) {
    for (int step = 0; step < steps; ++step) {
      const std::vector<int64_t> ids = some();
      switch (random_() % 4) {
        case 0:
        case 1: insert(ids); break;
        case 2: erase(ids); break;
        default: find(ids);
      }
      if (table_.size() != static_cast<int64_t>(map_.size())) fail("wrong size");
      ++operations;
    }
  }

 private:
  std::vector<int64_t> some() {
    std::vector<int64_t> ids(random_() % 40);
    for (int64_t& id : ids) {
      const uint64_t number = random_() % static_cast<uint64_t>(range_);
      id = static_cast<int64_t>((number << spread_) - (number % 2 ? uint64_t{1} << 63 : 0));
    }
    return ids;
  }

  void insert(const std::vector<int64_t>& ids) {
    const int64_t slot = static_cast<int64_t>(random_() % 1'000'000);
    std::unordered_set<int64_t> seen;
    int64_t taken = -1;
    for (size_t i = 0; i < ids.size() && taken < 0; ++i)
      if (map_.count(ids[i]) || !seen.insert(ids[i]).second) taken = static_cast<int64_t>(i);
    if (table_.insert(ids.data(), static_cast<int64_t>(ids.size()), slot) != taken) fail("wrong answer of insert");
    if (taken < 0)
      for (size_t i = 0; i < ids.size(); ++i) map_[ids[i]] = slot + static_cast<int64_t>(i);
  }

  void find(const std::vector<int64_t>& ids) const {
    std::vector<int64_t> slots(ids.size());
    table_.find(ids.data(), static_cast<int64_t>(ids.size()), slots.data());
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto known = map_.find(ids[i]);
      if (slots[i] != (known == map_.end() ? -1 : known->second)) fail("wrong slot");
    }
  }

  void erase(const std::vector<int64_t>& ids) {
    std::vector<int64_t> slots(ids.size());
    table_.erase(ids.data(), static_cast<int64_t>(ids.size()), slots.data());
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto known = map_.find(ids[i]);
      if (slots[i] != (known == map_.end() ? -1 : known->second)) fail("wrong slot of an erased id");
      if (known != map_.end()) map_.erase(known);
    }
  }

  std::mt19937_64 random_;
  int spread_;
  int64_t range_;
  aifw::IdTable table_;
  std::unordered_map<int64_t, int64_t> map_;
};

}  // namespace

int main() {
  for (uint64_t seed = 0; seed < 10; ++seed)
    for (const int spread : {0, 1, 32, 48, 54})
      for (const int64_t range : {5, 60, 1000}) Beside(seed, spread, range).run(500);
  std::printf("%lld operations\n", static_cast<long long>(operations));
}
