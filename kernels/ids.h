// Which slot an id is in: a hash table of 64-bit integers with open addressing, linear probing and deletion by shifting back (Knuth,
// The Art of Computer Programming, volume 3, section 6.4, algorithm R), so that removals leave nothing behind.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace aifw {

class IdTable {
 public:
  int64_t size() const { return size_; }
  int64_t bytes() const { return static_cast<int64_t>(entries_.capacity() * sizeof(Entry)); }

  // Enter ids for consecutive slots. Returns -1, or the position of the first id that is there already; then none is entered.
  int64_t insert(const int64_t* ids, int64_t count, int64_t first_slot) {
    reserve(size_ + count);
    for (int64_t i = 0; i < count; ++i) {
      Entry& entry = entries_[place(ids[i])];
      if (entry.slot >= 0) {
        for (int64_t j = 0; j < i; ++j) remove(ids[j]);
        return i;
      }
      entry = {ids[i], first_slot + i};
      ++size_;
    }
    return -1;
  }

  void find(const int64_t* ids, int64_t count, int64_t* slots) const {
    for (int64_t i = 0; i < count; ++i) slots[i] = entries_.empty() ? -1 : entries_[place(ids[i])].slot;
  }

  void erase(const int64_t* ids, int64_t count, int64_t* slots) {
    for (int64_t i = 0; i < count; ++i) slots[i] = entries_.empty() ? -1 : remove(ids[i]);
  }

 private:
  struct Entry {
    int64_t id;
    int64_t slot;  // -1: free
  };

  static constexpr int64_t kSmallest = 16;

  // Where an id's search begins: its mixed bits as a fraction of the table, whose length need not be a power of two then.
  int64_t home(int64_t id) const {
    uint64_t bits = static_cast<uint64_t>(id);
    bits = (bits ^ bits >> 32) * 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio
    bits = (bits ^ bits >> 29) * 0x9e3779b97f4a7c15;
    bits ^= bits >> 32;
    __extension__ using Wide = unsigned __int128;
    return static_cast<int64_t>(static_cast<Wide>(bits) * entries_.size() >> 64);
  }

  int64_t after(int64_t at) const { return at + 1 == static_cast<int64_t>(entries_.size()) ? 0 : at + 1; }

  // Where an id is, or would be entered. There is always a free entry.
  int64_t place(int64_t id) const {
    int64_t at = home(id);
    while (entries_[at].slot >= 0 && entries_[at].id != id) at = after(at);
    return at;
  }

  int64_t remove(int64_t id) {
    int64_t hole = place(id);
    const int64_t slot = entries_[hole].slot;
    if (slot < 0) return -1;
    --size_;
    // An entry moves into the hole unless its search begins behind the hole.
    for (int64_t at = after(hole); entries_[at].slot >= 0; at = after(at)) {
      const int64_t from = home(entries_[at].id);
      const bool stays = hole < at ? hole < from && from <= at : hole < from || from <= at;
      if (stays) continue;
      entries_[hole] = entries_[at];
      hole = at;
    }
    entries_[hole].slot = -1;
    return slot;
  }

  // Room for so many, with at least a quarter of the entries free. Grows by half or more, so that entering one by one stays cheap.
  void reserve(int64_t wanted) {
    const int64_t length = static_cast<int64_t>(entries_.size());
    if (wanted <= length / 4 * 3) return;
    const int64_t needed = wanted / 3 * 4 + 8;
    int64_t longer = length + length / 2;
    if (longer < needed) longer = needed;
    if (longer < kSmallest) longer = kSmallest;
    std::vector<Entry> old(longer, Entry{0, -1});
    std::swap(old, entries_);
    for (const Entry& entry : old)
      if (entry.slot >= 0) entries_[place(entry.id)] = entry;
  }

  std::vector<Entry> entries_;
  int64_t size_ = 0;
};

}  // namespace aifw
