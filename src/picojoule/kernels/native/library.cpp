// What the shared library exports: plain C, no torch. kernels/native/library.py loads it.
#include <cstdint>
#include <cstring>

#include "parallel.h"
#include "variant.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

#ifdef PICOJOULE_HAS_AVX512
namespace avx512 {
extern const Kernels KERNELS;
}
#endif
#ifdef PICOJOULE_HAS_AVX2
namespace avx2 {
extern const Kernels KERNELS;
}
#endif
namespace portable {
extern const Kernels KERNELS;
}

namespace {

struct Variant {
  const char* name;
  const Kernels* kernels;
  bool (*runs_here)();
};

const Variant VARIANTS[] = {
#ifdef PICOJOULE_HAS_AVX512
    {"avx512", &avx512::KERNELS,
     [] {
       return bool(__builtin_cpu_supports("avx512f")) && bool(__builtin_cpu_supports("avx512bw")) &&
              bool(__builtin_cpu_supports("avx512dq")) && bool(__builtin_cpu_supports("avx512vl"));
     }},
#endif
#ifdef PICOJOULE_HAS_AVX2
    {"avx2", &avx2::KERNELS, [] { return bool(__builtin_cpu_supports("avx2")) && bool(__builtin_cpu_supports("fma")); }},
#endif
    {"portable", &portable::KERNELS, [] { return true; }},
};

const Variant* selected = &VARIANTS[sizeof VARIANTS / sizeof *VARIANTS - 1];

// torch_parallel_for of torch's stable C interface.
using TorchParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, Body body, void* context);
TorchParallelFor torch_parallel_for = nullptr;

}  // namespace

void parallel_blocks(int64_t count, int64_t grain, Body body, void* context) {
  if (count <= grain || !torch_parallel_for || torch_parallel_for(0, count, grain, body, context) != 0)
    body(0, count, context);
}

EXPORTED int32_t picojoule_abi() { return 1; }
EXPORTED const char* picojoule_build() { return PICOJOULE_BUILD; }
EXPORTED const char* picojoule_sources() { return PICOJOULE_SOURCES; }
EXPORTED const char* picojoule_selected() { return selected->name; }
EXPORTED void picojoule_set_parallel_for(void* function) {
  torch_parallel_for = reinterpret_cast<TorchParallelFor>(function);
}

// 1 if the variant `name` ("auto": the best) is in this library and this CPU can run it; else 0, and nothing changes.
EXPORTED int32_t picojoule_select(const char* name) {
  for (const Variant& variant : VARIANTS) {
    if ((std::strcmp(name, "auto") == 0 || std::strcmp(name, variant.name) == 0) && variant.runs_here()) {
      selected = &variant;
      return 1;
    }
  }
  return 0;
}

EXPORTED void picojoule_neurons_forward(const Neurons* call) { selected->kernels->neurons_forward(call); }
EXPORTED void picojoule_neurons_backward(const Neurons* call) { selected->kernels->neurons_backward(call); }
EXPORTED void picojoule_block_forward(const Block* call) { selected->kernels->block_forward(call); }
EXPORTED void picojoule_block_backward(const Block* call) { selected->kernels->block_backward(call); }
EXPORTED void picojoule_count_events(const Count* call) { selected->kernels->count_events(call); }
EXPORTED void picojoule_population(const Population* call) { selected->kernels->population(call); }
