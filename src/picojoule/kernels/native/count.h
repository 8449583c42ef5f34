// What enters the synapses of a layer: sums over each sample of each step, in one pass.
#pragma once

#include <algorithm>
#include <limits>

#include "calls.h"
#include "neurons.h"
#include "parallel.h"
#include "simd.h"

namespace PICOJOULE_VARIANT {

// Elements whose sums stay below 2^24 in each lane of a float: 64 vectors of events times fan-out below 2^18.
constexpr int64_t EXACT = 64;

template <class S> void count_events(const Count& a) {
  using C = typename Compute<S>::type;
  constexpr int64_t part = EXACT * WIDTH<C>;
  const C* fan_out = static_cast<const C*>(a.fan_out);
  const C quantum = a.quantum, slack = a.quantum == 1 ? C(0) : C(1e-3), least = a.is_signed ? -std::numeric_limits<C>::infinity() : C(-0.5);
  for_each_block(a.steps * a.samples, std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, a.size)), [=](int64_t number) {
    const int64_t t = number / a.samples, b = number % a.samples;
    const S* x = static_cast<const S*>(a.x) + t * a.step_stride + b * a.sample_stride;
    double weighted = 0, nonzero = 0, entered = 0, broken = 0;
    for (int64_t start = 0; start < a.size; start += part) {
      const int64_t n = std::min(part, a.size - start);
      Vec<C> of_weighted{}, of_nonzero{}, of_entered{}, of_broken{};
      vectors<C>(n, [&](int64_t j, auto whole) {
        const Vec<C> value = get(x + start, j, n, whole), reach = get(fan_out + start, j, n, whole);
        const Mask<C> active = value != 0;
        of_nonzero += active ? reach : Vec<C>{};
        if (a.values) {
          of_entered += active ? broadcast<C>(1) : Vec<C>{};
          return;
        }
        const Vec<C> ratio = slack == 0 ? value : value / quantum;
        const Vec<C> half = ratio < 0 ? broadcast<C>(C(-0.5)) : broadcast<C>(C(0.5));
        const Vec<C> events = __builtin_convertvector(__builtin_convertvector(ratio + half, Mask<C>), Vec<C>);
        const Mask<C> is_event = (magnitude<C>(ratio - events) <= slack) & (ratio >= least);
        const Vec<C> count = magnitude<C>(events);
        of_weighted += count * reach;
        of_entered += count;
        of_broken += is_event ? Vec<C>{} : broadcast<C>(1);
      });
      weighted += sum_of<C>(of_weighted);
      nonzero += sum_of<C>(of_nonzero);
      entered += sum_of<C>(of_entered);
      broken += sum_of<C>(of_broken);
    }
    double* sums = a.sums + number;
    const int64_t table = a.steps * a.samples;
    sums[0] = a.values ? nonzero : weighted;
    sums[table] = nonzero;
    sums[2 * table] = entered;
    sums[3 * table] = broken;
  });
}

// Of each neuron: its events in all samples, the samples with an event, and those with more than one.
inline void population(const Population& a) {
  const float* sent = static_cast<const float*>(a.sent);
  for_each_block(blocks_of(a.size), grain_of(std::max<int64_t>(1, a.samples), block_size(a.size)), [=](int64_t number) {
    const int64_t first = number * block_size(a.size), n = std::min(block_size(a.size), a.size - first);
    Row<float> events, fired, multiple;
    for (Row<float>* row : {&events, &fired, &multiple}) row->fill(nullptr, n, 0);
    for (int64_t sample = 0; sample < a.samples; ++sample) {
      const float* row = sent + sample * a.sample_stride + first;
      vectors<float>(n, [&](int64_t j, auto whole) {
        const Vec<float> count = get(row, j, n, whole);
        store(events.at + j, load(events.at + j) + count);
        store(fired.at + j, load(fired.at + j) + (count > 0 ? broadcast<float>(1) : Vec<float>{}));
        store(multiple.at + j, load(multiple.at + j) + (count > 1 ? broadcast<float>(1) : Vec<float>{}));
      });
    }
    double* sums = a.sums + first;
    for (int64_t j = 0; j < n; ++j) {
      sums[j] = events.at[j];
      sums[a.size + j] = fired.at[j];
      sums[2 * a.size + j] = multiple.at[j];
    }
  });
}

inline void population_any(const Population* a) { population(*a); }

inline void count_events_any(const Count* a) {
  if (a->dtype == FLOAT64) return count_events<double>(*a);
  a->dtype == BFLOAT16 ? count_events<bf16>(*a) : count_events<float>(*a);
}

}  // namespace PICOJOULE_VARIANT
