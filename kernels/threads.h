// Threads that wait without spinning.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace aifw {

// Runs task(0) ... task(tasks - 1), each once, on up to `threads` threads, the calling one among them, and returns when all are
// done; on fewer if the system has no more to give. The others sleep in a pool until there is work. With `processors`, thread i
// runs pinned to processors[i % size], the calling one, too, which gets its former affinity back at the end. Tasks compute with the
// default floating-point environment. An exception of a task is passed on after all have ended.
void run_parallel(int threads, const std::vector<int>& processors, int64_t tasks, const std::function<void(int64_t)>& task);

}  // namespace aifw
