// Loops over blocks on torch's own threads.
#pragma once

#include <cstdint>
#include <type_traits>

// Runs body(begin, end) over parts of [0, count) that hold `grain` or more, on the threads that torch lends.
using Body = void (*)(int64_t begin, int64_t end, void* context);
void parallel_blocks(int64_t count, int64_t grain, Body body, void* context);

template <class F> inline void for_each_range(int64_t count, int64_t grain, F&& work) {
  using Work = std::remove_reference_t<F>;
  parallel_blocks(
      count, grain,
      [](int64_t begin, int64_t end, void* context) { (*static_cast<Work*>(context))(begin, end); }, &work);
}

template <class F> inline void for_each_block(int64_t count, int64_t grain, F&& work) {
  for_each_range(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) work(block);
  });
}
