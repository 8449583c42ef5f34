// All kernels for one instruction set; compiled once per variant.
#include "variant.h"

#include "block.h"
#include "count.h"
#include "neurons.h"

namespace PICOJOULE_VARIANT {

extern const Kernels KERNELS;
const Kernels KERNELS{neurons_forward, neurons_backward, block_forward_any, block_backward_any, count_events_any,
                      population_any};

}  // namespace PICOJOULE_VARIANT
