// Leaky integrate-and-fire over time, forward and backward: the arithmetic of kernels/lif/reference.py,
// kernels/cuba_lif/reference.py and neurons/signed_iaf.py, operation by operation, so that float results are equal bit by
// bit.
//
// A thread takes a block of neurons through all steps; their state stays in its first-level cache.
#pragma once

#include <algorithm>

#include "calls.h"
#include "parallel.h"
#include "surrogates.h"

namespace PICOJOULE_VARIANT {

constexpr int64_t BLOCK = 1024;       // neurons of one block: 4 KiB of state in float
constexpr int64_t SMALL_BLOCK = 512;  // for few neurons, so that every thread gets some
constexpr int64_t GRAIN = 1 << 15;    // neuron updates that are worth a thread

// The partition depends on the sizes alone, never on the number of threads: sums are the same on any number.
inline int64_t block_size(int64_t size) { return size >= 8 * BLOCK ? BLOCK : SMALL_BLOCK; }
inline int64_t blocks_of(int64_t size) { return (size + block_size(size) - 1) / block_size(size); }
inline int64_t grain_of(int64_t steps, int64_t block) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, steps * block)); }

// A block of float or double state, zero or copied from an array; whole vectors.
template <class C> struct Row {
  alignas(64) C at[BLOCK];

  void fill(const C* from, int64_t n, C otherwise) {
    if (from)
      std::copy(from, from + n, at);
    else
      std::fill(at, at + n, otherwise);
    std::fill(at + n, at + BLOCK, C(0));
  }
  void copy_to(C* to, int64_t n) const {
    if (to) std::copy(at, at + n, to);
  }
};

// body(j, whole) for every vector of n lanes; the last one may hold n - j lanes only.
template <class C, class F> inline void vectors(int64_t n, F&& body) {
  int64_t j = 0;
  for (; j + WIDTH<C> <= n; j += WIDTH<C>) body(j, std::true_type{});
  if (j < n) body(j, std::false_type{});
}

template <class S, class Whole> inline auto get(const S* row, int64_t j, int64_t n, Whole) {
  if constexpr (Whole::value) return load(row + j);
  else return load_some(row + j, n - j);
}
template <class S, class V, class Whole> inline void put(S* row, int64_t j, int64_t n, V x, bool streaming, Whole) {
  if constexpr (Whole::value) {
    if (streaming) stream(row + j, x);
    else store(row + j, x);
  } else store_some(row + j, x, n - j);
}

// Whether rows that start `begin` elements into steps of `stride` elements can be streamed to.
template <class S> inline bool aligned(const S* base, int64_t stride) {
  return reinterpret_cast<uintptr_t>(base) % VECTOR_BYTES == 0 && stride * int64_t(sizeof(S)) % VECTOR_BYTES == 0;
}

// u >= 0 as saved: a negative u that rounded to zero kept its sign.
template <class C> inline Mask<C> fired_of(Vec<C> u) { return (bits_as<Mask<C>>(u) >= 0) & (u == u); }

struct None {};

// S: storage of currents and events; U: storage of u, or None in inference. Signed: neurons with a soft reset that take
// an event back where v < 0, as long as their net count is above 0; backward is that of others.
template <class S, class U, bool Synaptic, bool Signed> void forward(const Neurons& a) {
  using C = typename Compute<S>::type;
  const C decay = a.decay, threshold = a.threshold, v_reset = a.v_reset, synaptic_decay = a.synaptic_decay;
  const C saved_minus = a.learned ? C(0) : threshold;
  const S* x = static_cast<const S*>(a.x);
  S* events = static_cast<S*>(a.events);
  const Mask<C> hard = Mask<C>{} - (a.hard ? 1 : 0);
  const int64_t block = block_size(a.size);
  bool streaming = a.streaming && aligned(events, a.size);
  if constexpr (!std::is_same_v<U, None>) streaming = streaming && aligned(static_cast<U*>(a.u), a.size);

  for_each_block(blocks_of(a.size), grain_of(a.steps, block), [&](int64_t number) {
    const int64_t first = number * block, n = std::min(block, a.size - first);
    const auto part = [&](const void* array) { return array ? static_cast<const C*>(array) + first : nullptr; };
    Row<C> v, i, sent;
    v.fill(part(a.v_start), n, C(0));
    if constexpr (Synaptic) i.fill(part(a.i_start), n, C(0));
    if (a.sent) sent.fill(part(a.sent_before), n, C(0));
    for (int64_t t = 0; t < a.steps; ++t) {
      const S* x_row = x + t * a.x_stride + first;
      S* events_row = events + t * a.size + first;
      vectors<C>(n, [&](int64_t j, auto whole) {
        prefetch(x_row + a.x_stride + j);
        Vec<C> current = get(x_row, j, n, whole);
        if constexpr (Synaptic) {
          current = synaptic_decay * load(i.at + j) + current;
          store(i.at + j, current);
        }
        const Vec<C> potential = decay * load(v.at + j) + current;
        const Vec<C> u = potential - threshold;
        const Mask<C> fired = u >= 0;
        const Vec<C> reset = hard ? broadcast<C>(v_reset) : u;
        Vec<C> rest = potential, event = fired ? broadcast<C>(1) : Vec<C>{};
        if constexpr (Signed) {
          const Mask<C> back = (potential < 0) & (load(sent.at + j) > 0);
          rest = back ? potential + threshold : potential;
          event = back ? broadcast<C>(-1) : event;
        }
        store(v.at + j, fired ? reset : rest);
        put(events_row, j, n, event, streaming, whole);
        if constexpr (!std::is_same_v<U, None>)
          // + 0: where the CPU flushes denormals, u may be -0, which fires, but in backward means a negative u
          put(static_cast<U*>(a.u) + t * a.size + first, j, n, potential - saved_minus + C(0), streaming, whole);
        if (a.sent) store(sent.at + j, load(sent.at + j) + event);
      });
    }
    const auto out = [&](void* array) { return array ? static_cast<C*>(array) + first : nullptr; };
    v.copy_to(out(a.v_end), n);
    if constexpr (Synaptic) i.copy_to(out(a.i_end), n);
    if (a.sent) sent.copy_to(out(a.sent), n);
    if (streaming) end_of_streams();
  });
}

template <class S, class U, bool Synaptic, bool Learned> void backward(const Neurons& a) {
  using C = typename Compute<S>::type;
  const C decay = a.decay, threshold = a.threshold, v_reset = a.v_reset, synaptic_decay = a.synaptic_decay;
  const U* u_all = static_cast<const U*>(a.u);
  S* g_x = static_cast<S*>(a.g_x);
  const Mask<C> hard = Mask<C>{} - (a.hard ? 1 : 0);
  const int64_t block = block_size(a.size), count = blocks_of(a.size);
  const bool streaming = a.streaming && aligned(g_x, a.size);
  double* sums = Learned ? new double[3 * count]() : nullptr;

  for_each_block(count, grain_of(a.steps, block), [&](int64_t number) {
    const int64_t first = number * block, n = std::min(block, a.size - first);
    const auto part = [&](const void* array) { return array ? static_cast<const C*>(array) + first : nullptr; };
    Row<C> g_v, g_i, g_sent, u, slopes;
    g_v.fill(part(a.g_v_end), n, C(0));
    if constexpr (Synaptic) g_i.fill(part(a.g_i_end), n, C(0));
    g_sent.fill(part(a.g_sent), n, C(0));
    u.fill(nullptr, n, C(0));

    // The potential after the reset at the end of step t, -1 being the start; if `learned`.
    const auto after = [&](int64_t t, int64_t j, auto whole) -> Vec<C> {
      if (t < 0) return a.v_start ? get(part(a.v_start), j, n, whole) : Vec<C>{};
      const Vec<C> potential = get(u_all + t * a.size + first, j, n, whole), u = potential - threshold;
      return u >= 0 ? (hard ? broadcast<C>(v_reset) : u) : potential;
    };

    for (int64_t t = a.steps - 1; t >= 0; --t) {
      const U* u_row = u_all + t * a.size + first;
      const S* g_row = a.g_events ? static_cast<const S*>(a.g_events) + t * a.g_events_stride + first : nullptr;
      vectors<C>(n, [&](int64_t j, auto whole) {
        if (g_row) prefetch(g_row + j);  // on its way while the slopes are computed
        const Vec<C> saved = get(u_row, j, n, whole);
        store(u.at + j, Learned ? saved - threshold : saved);
      });
      const int64_t whole_vectors = (n + WIDTH<C> - 1) / WIDTH<C> * WIDTH<C>;
      slopes_of<C>(Surrogate(a.surrogate), C(a.surrogate_a), C(a.surrogate_b), u.at, slopes.at, whole_vectors);
      Vec<C> of_decay{}, of_threshold{}, of_synaptic{};
      vectors<C>(n, [&](int64_t j, auto whole) {
        prefetch(u_row - a.size + j);
        const Mask<C> fired = Learned ? load(u.at + j) >= 0 : fired_of<C>(load(u.at + j));
        const Vec<C> arriving = load(g_v.at + j);
        Vec<C> g_event = load(g_sent.at + j);
        if (g_row) g_event = g_event + get(g_row, j, n, whole);
        const Vec<C> g_spike = g_event * load(slopes.at + j);
        const Vec<C> kept = (fired & hard) ? Vec<C>{} : arriving;
        Vec<C> g = g_spike + kept;
        if constexpr (Learned) {
          const Vec<C> v_before = after(t - 1, j, whole);
          of_decay += g * v_before;
          of_threshold -= g_spike + ((fired & ~hard) ? arriving : Vec<C>{});
        }
        store(g_v.at + j, decay * g);
        if constexpr (Synaptic) {
          g = g + load(g_i.at + j);
          if constexpr (Learned) {
            Vec<C> i_before = a.i_start && t == 0 ? get(part(a.i_start), j, n, whole) : Vec<C>{};
            if (t > 0) i_before = get(u_row - a.size, j, n, whole) - decay * after(t - 2, j, whole);
            of_synaptic += g * i_before;
          }
          store(g_i.at + j, synaptic_decay * g);
        }
        if (g_x) put(g_x + t * a.size + first, j, n, g, streaming, whole);
      });
      if constexpr (Learned) {
        sums[3 * number] += sum_of<C>(of_decay);
        sums[3 * number + 1] += sum_of<C>(of_threshold);
        sums[3 * number + 2] += sum_of<C>(of_synaptic);
      }
    }
    const auto out = [&](void* array) { return array ? static_cast<C*>(array) + first : nullptr; };
    g_v.copy_to(out(a.g_v_start), n);
    if constexpr (Synaptic) g_i.copy_to(out(a.g_i_start), n);
    if (streaming) end_of_streams();
  });
  if constexpr (Learned)
    for (int64_t k = 0; k < 3 * count; ++k) a.g_parameters[k % 3] += sums[k];
  delete[] sums;
}

template <class S, class U> void forward_for(const Neurons& a) {
  if (a.sent_before) return forward<S, U, false, true>(a);
  a.synaptic ? forward<S, U, true, false>(a) : forward<S, U, false, false>(a);
}

template <class S, class U> void backward_for(const Neurons& a) {
  if (a.synaptic)
    a.learned ? backward<S, U, true, true>(a) : backward<S, U, true, false>(a);
  else
    a.learned ? backward<S, U, false, true>(a) : backward<S, U, false, false>(a);
}

inline void neurons_forward(const Neurons* a) {
  if (a->dtype == FLOAT64) return a->u ? forward_for<double, double>(*a) : forward_for<double, None>(*a);
  if (a->dtype == BFLOAT16) {
    if (!a->u) return forward_for<bf16, None>(*a);
    return a->u_dtype == BFLOAT16 ? forward_for<bf16, bf16>(*a) : forward_for<bf16, float>(*a);
  }
  if (!a->u) return forward_for<float, None>(*a);
  a->u_dtype == BFLOAT16 ? forward_for<float, bf16>(*a) : forward_for<float, float>(*a);
}

inline void neurons_backward(const Neurons* a) {
  if (a->dtype == FLOAT64) return backward_for<double, double>(*a);
  if (a->dtype == BFLOAT16)
    return a->u_dtype == BFLOAT16 ? backward_for<bf16, bf16>(*a) : backward_for<bf16, float>(*a);
  a->u_dtype == BFLOAT16 ? backward_for<float, bf16>(*a) : backward_for<float, float>(*a);
}

}  // namespace PICOJOULE_VARIANT
