// What Python hands over: one struct per call, mirrored by ctypes in the file named beside it.
#pragma once

#include <cstdint>

enum Dtype : int32_t { FLOAT32, FLOAT64, BFLOAT16 };

// Neurons alone, over time (kernels/native/calls.py). In one step the `size` neurons of all samples lie
// side by side; step t of an array starts `stride` elements behind step t - 1, and stride 0 repeats one step.
// State is of the compute type (float for 16-bit currents). Null pointers: not wanted, or zero.
struct Neurons {
  int64_t steps, size;
  double decay, threshold, v_reset, synaptic_decay;
  int32_t dtype, u_dtype;  // of currents and events; of u
  int32_t hard;            // reset to v_reset instead of subtracting the threshold
  int32_t synaptic;        // the current itself decays: i <- synaptic_decay * i + x, and i is integrated
  int32_t learned;         // u is v itself instead of v - threshold; backward fills g_parameters
  int32_t streaming;       // write past the caches
  int32_t surrogate;
  double surrogate_a, surrogate_b;
  // forward
  const void* x;
  int64_t x_stride;
  void* events;
  void* u;  // v - threshold before the reset, for the backward pass
  const void* v_start;
  void* v_end;
  const void* i_start;
  void* i_end;
  void* sent;  // [size]: events of each neuron over all steps
  const void* sent_before;  // [size]: net events so far, for neurons that take events back; `sent` goes on from them
  // backward
  const void* g_events;
  int64_t g_events_stride;
  const void* g_sent;
  const void* g_v_end;
  const void* g_i_end;
  void* g_x;
  void* g_v_start;
  void* g_i_start;
  double* g_parameters;  // decay, threshold, synaptic decay; zero before
};

// Batch norm, neurons and pooling in one pass over channels-last maps (kernels/native/calls.py).
// y [y_steps, B, H, W, C] -> events [T, B, H / pool, W / pool, C]; one step of y serves all T steps.
struct Block {
  int64_t steps, y_steps, samples, height, width, channels, pool;
  double decay, threshold, v_reset;
  int32_t dtype;
  int32_t hard;
  int32_t average;           // mean over the pool's window instead of its maximum
  int32_t batch_statistics;  // backward: mean and deviation depend on y
  int32_t surrogate;
  double surrogate_a, surrogate_b;
  const void* y;
  const void* scale;    // [C] of the compute type: current = scale * y + shift; null: the current is y
  const void* shift;
  const void* v_start;  // [B, H, W, C] of the compute type, or null: zero
  // forward
  void* v_end;
  void* pooled;
  void* sent;           // [B, H, W, C] of the compute type: events of each neuron over all steps, or null
  // backward
  const void* g_pooled;
  const void* g_sent;
  const void* g_v_end;
  const void* mean;       // [C] of the compute type
  const void* deviation;  // [C] of the compute type: 1 / sqrt(variance + epsilon)
  void* g_y;
  void* g_v_start;
  double* g_shift;  // [C]: sum of the currents' gradients
  double* g_scale;  // [C]: sum of the currents' gradients times (y - mean) * deviation
};

// Sums of what enters synapses, for each sample of each step (kernels/native/calls.py).
struct Count {
  int64_t steps, samples, size;        // `size` elements of one sample in one step lie side by side
  int64_t step_stride, sample_stride;  // elements between steps and between samples
  double quantum;                      // of events: value = n * quantum
  int32_t dtype;
  int32_t values;     // count what is not zero; else the numbers |n|
  int32_t is_signed;  // n may be negative
  const void* x;
  const void* fan_out;  // [size] of the compute type
  double* sums;         // [4, steps, samples]: |n| times fan-out, non-zeros times fan-out, |n|, how many are no events
};

// What each neuron of a population did (kernels/native/calls.py).
struct Population {
  int64_t samples, size, sample_stride;
  const void* sent;  // float, [size] for each sample: whole numbers of events, below 2^24 in all samples
  double* sums;      // [3, size]: events, samples with one, samples with more than one
};
