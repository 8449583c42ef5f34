// The kernels of a variant, as the library calls them.
#pragma once

#include "calls.h"

struct Kernels {
  void (*neurons_forward)(const Neurons*);
  void (*neurons_backward)(const Neurons*);
  void (*block_forward)(const Block*);
  void (*block_backward)(const Block*);
  void (*count_events)(const Count*);
  void (*population)(const Population*);
};
