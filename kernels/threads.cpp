// A pool of threads that sleep on a condition variable. It is never taken down: at exit its threads are asleep.
#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

namespace aifw {
namespace {

struct Work {
  const std::function<void(int64_t)>* task;
  const std::vector<int>* processors;
  int64_t tasks;
  std::atomic<int64_t> next{0};
  int running = 0;  // threads of the pool at work on it; guarded by the pool's mutex
  std::exception_ptr failure;
  std::mutex failure_mutex;
  std::condition_variable done;
};

// Keeps the calling thread on one processor until the end of the scope. A processor that cannot be had is no failure: the result
// does not depend on it.
class Pin {
 public:
  Pin(const std::vector<int>& processors, int index) {
#ifdef __linux__
    if (processors.empty() || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    const int processor = processors[static_cast<size_t>(index) % processors.size()];
    if (processor < 0 || processor >= CPU_SETSIZE) return;
    CPU_SET(processor, &one);
    pinned_ = sched_setaffinity(0, sizeof one, &one) == 0;
#else
    (void)processors, (void)index;
#endif
  }
  ~Pin() {
#ifdef __linux__
    if (pinned_) sched_setaffinity(0, sizeof before_, &before_);
#endif
  }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

 private:
#ifdef __linux__
  cpu_set_t before_;
#endif
  bool pinned_ = false;
};

// Rounding to nearest, with denormal numbers, whatever the caller's thread is set to: libraries for training like to flush
// denormals to zero, which would lose components and break the proof of the bounds.
class PlainArithmetic {
 public:
  PlainArithmetic() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~PlainArithmetic() { std::fesetenv(&before_); }
  PlainArithmetic(const PlainArithmetic&) = delete;
  PlainArithmetic& operator=(const PlainArithmetic&) = delete;

 private:
  std::fenv_t before_;
};

void take_part(Work& work, int index) {
  const Pin pin(*work.processors, index);
  const PlainArithmetic arithmetic;
  for (int64_t i; (i = work.next.fetch_add(1)) < work.tasks;) {
    try {
      (*work.task)(i);
    } catch (...) {
      const std::lock_guard<std::mutex> guard(work.failure_mutex);
      work.failure = std::current_exception();
      work.next.store(work.tasks);
    }
  }
}

struct Pool {
  struct Seat {
    Work* work;
    int index;
  };
  std::mutex mutex;
  std::condition_variable waiting;
  std::deque<Seat> seats;
  int threads = 0;

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      waiting.wait(lock, [&] { return !seats.empty(); });
      const Seat seat = seats.front();
      seats.pop_front();
      ++seat.work->running;
      lock.unlock();
      take_part(*seat.work, seat.index);
      lock.lock();
      if (--seat.work->running == 0) seat.work->done.notify_all();
    }
  }
};

Pool* pool = nullptr;

// A forked child has no threads; it starts with an empty pool.
void start_anew() { pool = new Pool; }

Pool& the_pool() {
  static const bool registered = [] {
    start_anew();
    pthread_atfork(nullptr, nullptr, start_anew);
    return true;
  }();
  (void)registered;
  return *pool;
}

}  // namespace

void run_parallel(int threads, const std::vector<int>& processors, int64_t tasks, const std::function<void(int64_t)>& task) {
  const int helpers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
  Work work;
  work.task = &task;
  work.processors = &processors;
  work.tasks = tasks;
  if (helpers <= 0) {
    take_part(work, 0);
  } else {
    Pool& pool = the_pool();
    std::vector<Pool::Seat> seats;
    for (int i = 1; i <= helpers; ++i) seats.push_back({&work, i});
    {
      const std::lock_guard<std::mutex> guard(pool.mutex);
      try {
        for (; pool.threads < helpers; ++pool.threads) std::thread(&Pool::serve, &pool).detach();
      } catch (const std::system_error&) {
        // The system has no more threads to give: those there are do the same work, only later.
      }
      // All or none: a seat that stayed behind after an exception would lead to work that is gone.
      pool.seats.insert(pool.seats.end(), seats.begin(), seats.end());
    }
    pool.waiting.notify_all();
    take_part(work, 0);
    std::unique_lock<std::mutex> lock(pool.mutex);
    const auto mine = [&](const Pool::Seat& seat) { return seat.work == &work; };
    pool.seats.erase(std::remove_if(pool.seats.begin(), pool.seats.end(), mine), pool.seats.end());
    work.done.wait(lock, [&] { return work.running == 0; });
  }
  if (work.failure) std::rethrow_exception(work.failure);
}

}  // namespace aifw
