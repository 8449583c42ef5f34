// Batch norm, leaky integrate-and-fire and pooling in one pass over channels-last maps, forward and backward.
//
// A thread takes a few pooling windows of one sample through all steps. Only the pooled events are written; backward
// computes the potentials again, in its cache, from what entered the norm.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "calls.h"
#include "neurons.h"
#include "parallel.h"
#include "surrogates.h"

namespace PICOJOULE_VARIANT {

constexpr int64_t UNIT = 2048;           // neurons of one unit, at most, but one window at least
constexpr int64_t SCRATCH = 1 << 16;     // potentials of all steps of a unit that backward keeps: 256 KiB in float
constexpr int64_t GROUPS = 64;           // groups of units with channel sums of their own, on any number of threads

// How the maps are cut: a unit is `windows` pooling windows side by side, `rows` pixels high.
struct Cut {
  int64_t rows, windows, in_row, row_count, count;

  Cut(const Block& a, int64_t lanes) {
    const int64_t window = a.pool * a.pool * lanes;
    const int64_t most = std::min(UNIT, SCRATCH / std::max<int64_t>(1, a.steps));
    in_row = a.width / a.pool;
    windows = std::clamp<int64_t>(most / window, 1, std::max<int64_t>(in_row, 1));
    rows = a.pool;
    row_count = (in_row + windows - 1) / windows;
    count = a.samples * (a.height / a.pool) * row_count;
  }
};

// One unit: where it lies in a step of the maps and of the pooled maps, in pixels.
struct Unit {
  int64_t first, pooled, windows;

  Unit(const Block& a, const Cut& cut, int64_t number) {
    const int64_t column = number % cut.row_count * cut.windows, line = number / cut.row_count;
    const int64_t lines = a.height / a.pool, sample = line / lines, row = line % lines;
    windows = std::min(cut.windows, cut.in_row - column);
    first = (sample * a.height + row * a.pool) * a.width + column * a.pool;
    pooled = (sample * lines + row) * cut.in_row + column;
  }
};

// Scratch of one thread: `size` numbers, aligned and zeroed.
template <class C> struct Scratch {
  C* const at;
  explicit Scratch(int64_t size)
      : at(static_cast<C*>(std::aligned_alloc(64, (size * sizeof(C) + 63) / 64 * 64))) {
    std::fill(at, at + size, C(0));
  }
  ~Scratch() { std::free(at); }
  Scratch(const Scratch&) = delete;
};

// As a 16-bit current would have been stored between the norm and the neurons.
template <class S> inline Vec<typename Compute<S>::type> stored(Vec<typename Compute<S>::type> x) {
  if constexpr (std::is_same_v<S, bf16>) return widen(narrow(x));
  else return x;
}

template <class S> struct Stage {
  using C = typename Compute<S>::type;
  const Block& a;
  const Cut cut;
  const int64_t lanes;  // channels, rounded up to whole vectors
  const int64_t pixels, pooled_pixels;  // of one step
  const C decay, threshold, v_reset;
  const Mask<C> hard;

  explicit Stage(const Block& a)
      : a(a), cut(a, rounded(a.channels)), lanes(rounded(a.channels)), pixels(a.samples * a.height * a.width),
        pooled_pixels(a.samples * (a.height / a.pool) * (a.width / a.pool)), decay(a.decay), threshold(a.threshold),
        v_reset(a.v_reset), hard(Mask<C>{} - (a.hard ? 1 : 0)) {}

  static int64_t rounded(int64_t n) { return (n + WIDTH<C> - 1) / WIDTH<C> * WIDTH<C>; }
  int64_t neurons() const { return cut.rows * cut.windows * a.pool * lanes; }
  int64_t grain() const { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, a.steps * neurons())); }

  // body(pixel of the unit, pixel of the map, window of the unit) for each pixel of a unit, row by row.
  template <class F> void each_pixel(const Unit& unit, F&& body) const {
    const int64_t rows = cut.rows, windows = unit.windows, pool = a.pool, width = a.width;
    int64_t here = 0;
    for (int64_t row = 0; row < rows; ++row) {
      int64_t there = unit.first + row * width;
      for (int64_t window = 0; window < windows; ++window)
        for (int64_t column = 0; column < pool; ++column) body(here++, there++, window);
    }
  }

  // A state or sum [B, H, W, C], between the map and the scratch.
  void gather(const Unit& unit, const void* from, C* to) const {
    each_pixel(unit, [&](int64_t here, int64_t there, int64_t) {
      C* lane = to + here * lanes;
      if (from) std::copy_n(static_cast<const C*>(from) + there * a.channels, a.channels, lane);
      else std::fill_n(lane, a.channels, C(0));
    });
  }
  void scatter(const Unit& unit, const C* from, void* to) const {
    if (!to) return;
    each_pixel(unit, [&](int64_t here, int64_t there, int64_t) {
      std::copy_n(from + here * lanes, a.channels, static_cast<C*>(to) + there * a.channels);
    });
  }

  const S* step_of_y(int64_t t) const {
    return static_cast<const S*>(a.y) + (a.y_steps == 1 ? 0 : t) * pixels * a.channels;
  }

  // One step of a unit's neurons: v is updated, event(neuron, channel of window, u, fired) is told of every vector.
  template <class F> void step(const Unit& unit, int64_t t, C* v, F&& event) const {
    const S* y_step = step_of_y(t);
    const int64_t ahead = pixels * a.channels;
    const C *scale = static_cast<const C*>(a.scale), *shift = static_cast<const C*>(a.shift);
    const int64_t channels = a.channels, lanes = this->lanes;
    const C decay = this->decay, threshold = this->threshold;
    const Mask<C> hard = this->hard;
    const Vec<C> v_reset = broadcast<C>(this->v_reset);
    each_pixel(unit, [=](int64_t here, int64_t there, int64_t window) {
      const S* y = y_step + there * channels;
      C* v_here = v + here * lanes;
      vectors<C>(channels, [=](int64_t c, auto whole) {
        prefetch(y + ahead + c);
        Vec<C> current = get(y, c, channels, whole);
        if (scale) current = stored<S>(get(scale, c, channels, whole) * current + get(shift, c, channels, whole));
        const Vec<C> potential = decay * load(v_here + c) + current;
        const Vec<C> u = potential - threshold;
        const Mask<C> fired = u >= 0;
        store(v_here + c, fired ? (hard ? v_reset : u) : potential);
        event(here * lanes + c, window * lanes + c, u, fired);
      });
    });
  }
};

template <class S> void block_forward(const Block& a) {
  using C = typename Compute<S>::type;
  const Stage<S> stage(a);
  const int64_t neurons = stage.neurons(), lanes = stage.lanes;
  S* pooled = static_cast<S*>(a.pooled);
  for_each_range(stage.cut.count, stage.grain(), [&](int64_t begin, int64_t end) {
    Scratch<C> v(neurons), sent(neurons), counts(stage.cut.windows * lanes);
    C *const counted = counts.at, *const sums = a.sent ? sent.at : nullptr;
    const int64_t channels = a.channels;
    const C window_size = a.average ? a.pool * a.pool : 0;
    for (int64_t number = begin; number < end; ++number) {
      const Unit unit(a, stage.cut, number);
      stage.gather(unit, a.v_start, v.at);
      std::fill_n(sent.at, neurons, C(0));
      for (int64_t t = 0; t < a.steps; ++t) {
        std::fill_n(counted, unit.windows * lanes, C(0));
        stage.step(unit, t, v.at, [=](int64_t j, int64_t window, Vec<C>, Mask<C> fired) {
          const Vec<C> event = fired ? broadcast<C>(1) : Vec<C>{};
          store(counted + window, load(counted + window) + event);
          if (sums) store(sums + j, load(sums + j) + event);
        });
        S* out = pooled + (t * stage.pooled_pixels + unit.pooled) * channels;
        for (int64_t window = 0; window < unit.windows; ++window)
          vectors<C>(channels, [=](int64_t c, auto whole) {
            const Vec<C> count = load(counted + window * lanes + c);
            const Vec<C> most = count > 0 ? broadcast<C>(1) : Vec<C>{};
            put(out + window * channels, c, channels, window_size > 0 ? count / window_size : most, false, whole);
          });
      }
      stage.scatter(unit, v.at, a.v_end);
      stage.scatter(unit, sent.at, a.sent);
    }
  });
}

// A slope with the sign bit set where the neuron was silent. The kernels' surrogates are never negative.
template <class C> void signed_slopes_of(const Block& a, C* u, C* slopes, int64_t size) {
  slopes_of<C>(Surrogate(a.surrogate), C(a.surrogate_a), C(a.surrogate_b), u, slopes, size);
  for (int64_t j = 0; j < size; j += WIDTH<C>) {
    const Vec<C> slope = magnitude<C>(load(slopes + j));
    store(u + j, fired_of<C>(load(u + j)) ? slope : bits_as<Vec<C>>(bits_as<Mask<C>>(slope) | sign_bits<C>()));
  }
}

// The largest of a window's events hands its gradient on: to the first event, or the first pixel if there is none.
enum Window : int32_t { SILENT, WAITING, DONE };

// Gradients of the currents of one group of units: into g_y as they are, and their channel sums into `sums`.
// Maximum: the pool takes the maximum of several pixels. Normed: there is a norm, so sums are asked for.
template <class S, bool Maximum, bool Normed>
void currents_backward(const Stage<S>& stage, int64_t begin, int64_t end, double* sums) {
  using C = typename Compute<S>::type;
  const Block& a = stage.a;
  const int64_t neurons = stage.neurons(), lanes = stage.lanes, channels = a.channels, pool = a.pool;
  const int64_t across = stage.cut.windows * lanes;
  const C *mean = static_cast<const C*>(a.mean), *deviation = static_cast<const C*>(a.deviation);
  const bool repeated = a.y_steps == 1 && a.steps > 1, counted = a.g_sent;
  const C share = a.average ? C(pool * pool) : C(1), decay = stage.decay;
  const Mask<C> hard = stage.hard;
  Scratch<C> v_row(neurons), slope_rows(neurons * a.steps), slopes_row(neurons), g_v_row(neurons), g_sent_row(neurons);
  Scratch<C> g_windows(across), state_rows(Maximum ? across * a.steps : 0), g_sum_row(repeated ? neurons : 0);
  Scratch<C> shift_row(lanes), scale_row(lanes);
  C *const g_v = g_v_row.at, *const g_sent = g_sent_row.at, *const g_sum = g_sum_row.at;
  C *const g_window = g_windows.at, *const of_shift = shift_row.at, *const of_scale = scale_row.at;

  for (int64_t number = begin; number < end; ++number) {
    const Unit unit(a, stage.cut, number);
    stage.gather(unit, a.v_start, v_row.at);
    if constexpr (Maximum) std::fill_n(state_rows.at, across * a.steps, C(SILENT));
    for (int64_t t = 0; t < a.steps; ++t) {
      C *const u = slope_rows.at + t * neurons, *const state = state_rows.at + t * across;
      stage.step(unit, t, v_row.at, [=](int64_t j, int64_t window, Vec<C> x, Mask<C> fired) {
        store(u + j, x + C(0));  // no -0, which fires where the CPU flushes denormals, but reads as negative
        if constexpr (Maximum) store(state + window, fired ? broadcast<C>(WAITING) : load(state + window));
      });
      signed_slopes_of<C>(a, u, slopes_row.at, neurons);
    }
    stage.gather(unit, a.g_v_end, g_v);
    if (counted) stage.gather(unit, a.g_sent, g_sent);
    if (repeated) std::fill_n(g_sum, neurons, C(0));

    for (int64_t t = a.steps - 1; t >= 0; --t) {
      const C* slopes = slope_rows.at + t * neurons;
      C* const state = state_rows.at + t * across;
      const S* g_pooled = static_cast<const S*>(a.g_pooled);
      if (g_pooled) g_pooled += (t * stage.pooled_pixels + unit.pooled) * channels;
      for (int64_t window = 0; window < unit.windows; ++window)
        vectors<C>(channels, [=](int64_t c, auto whole) {
          const Vec<C> g = g_pooled ? get(g_pooled + window * channels, c, channels, whole) : Vec<C>{};
          store(g_window + window * lanes + c, g / share);
        });
      const S* y_step = stage.step_of_y(t);
      S* const g_y = static_cast<S*>(a.g_y) + (repeated ? 0 : t) * stage.pixels * channels;
      const bool written = !repeated || t == 0;
      stage.each_pixel(unit, [=](int64_t here, int64_t there, int64_t window) {
        const S* y = y_step + there * channels;
        S* const g_row = g_y + there * channels;
        const Mask<C> first = Mask<C>{} - (here == window * pool ? 1 : 0);
        vectors<C>(channels, [=](int64_t c, auto whole) {
          const int64_t j = here * lanes + c, k = window * lanes + c;
          const Vec<C> signed_slope = load(slopes + j);
          const Mask<C> fired = bits_as<Mask<C>>(signed_slope) >= 0;
          Vec<C> g_event = load(g_window + k);
          if constexpr (Maximum) {
            const Vec<C> before = load(state + k);
            const Mask<C> earliest = fired & (before == C(WAITING));
            store(state + k, earliest ? broadcast<C>(DONE) : before);
            g_event = (earliest | (first & (before == C(SILENT)))) ? g_event : Vec<C>{};
          }
          if (counted) g_event = g_event + load(g_sent + j);
          const Vec<C> slope = bits_as<Vec<C>>(bits_as<Mask<C>>(signed_slope) & ~sign_bits<C>());
          const Vec<C> arriving = load(g_v + j);
          Vec<C> g = g_event * slope + ((fired & hard) ? Vec<C>{} : arriving);
          store(g_v + j, decay * g);
          if (repeated) {
            g = g + load(g_sum + j);
            store(g_sum + j, g);
          }
          if (!written) return;
          put(g_row, c, channels, g, false, whole);
          if constexpr (Normed) {
            const Vec<C> x = get(y, c, channels, whole);
            const Vec<C> normed = (x - get(mean, c, channels, whole)) * get(deviation, c, channels, whole);
            store(of_shift + c, load(of_shift + c) + g);
            store(of_scale + c, load(of_scale + c) + g * normed);
          }
        });
      });
    }
    stage.scatter(unit, g_v, a.g_v_start);
    for (int64_t c = 0; Normed && c < channels; ++c) {
      sums[c] += of_shift[c];
      sums[channels + c] += of_scale[c];
      of_shift[c] = of_scale[c] = 0;
    }
  }
}

// From gradients of the currents to gradients of y, in place.
template <class S> void norm_backward(const Stage<S>& stage) {
  using C = typename Compute<S>::type;
  const Block& a = stage.a;
  const int64_t rows = a.y_steps * stage.pixels, channels = a.channels;
  const C *mean = static_cast<const C*>(a.mean), *deviation = static_cast<const C*>(a.deviation);
  const C* scale = static_cast<const C*>(a.scale);
  const S* y_all = static_cast<const S*>(a.y);
  S* g_all = static_cast<S*>(a.g_y);
  Scratch<C> shift_row(stage.lanes), scale_row(stage.lanes);
  C *const of_shift = shift_row.at, *const of_scale = scale_row.at;
  const bool of_batch = a.batch_statistics;
  for (int64_t c = 0; of_batch && c < channels; ++c) {
    of_shift[c] = C(a.g_shift[c] / double(rows));
    of_scale[c] = C(a.g_scale[c] / double(rows));
  }
  for_each_range(rows, std::max<int64_t>(1, GRAIN / channels), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const S* y = y_all + row * channels;
      S* const g_row = g_all + row * channels;
      vectors<C>(channels, [=](int64_t c, auto whole) {
        Vec<C> g = get(g_row, c, channels, whole);
        if (of_batch) {
          const Vec<C> x = get(y, c, channels, whole);
          const Vec<C> normed = (x - get(mean, c, channels, whole)) * get(deviation, c, channels, whole);
          g = (g - load(of_shift + c)) - normed * load(of_scale + c);
        }
        put(g_row, c, channels, g * get(scale, c, channels, whole), false, whole);
      });
    }
  });
}

template <class S> void block_backward(const Block& a) {
  const Stage<S> stage(a);
  const int64_t groups = std::min(GROUPS, stage.cut.count), size = 2 * a.channels;
  Scratch<double> sums(a.scale ? groups * size : 0);
  const auto currents = a.average || a.pool == 1
                            ? (a.scale ? currents_backward<S, false, true> : currents_backward<S, false, false>)
                            : (a.scale ? currents_backward<S, true, true> : currents_backward<S, true, false>);
  for_each_block(groups, 1, [&](int64_t group) {
    const int64_t begin = stage.cut.count * group / groups, end = stage.cut.count * (group + 1) / groups;
    currents(stage, begin, end, a.scale ? sums.at + group * size : nullptr);
  });
  if (!a.scale) return;
  for (int64_t group = 0; group < groups; ++group)
    for (int64_t c = 0; c < a.channels; ++c) {
      a.g_shift[c] += sums.at[group * size + c];
      a.g_scale[c] += sums.at[group * size + a.channels + c];
    }
  norm_backward(stage);
}

inline void block_forward_any(const Block* a) {
  if (a->dtype == FLOAT64) return block_forward<double>(*a);
  a->dtype == BFLOAT16 ? block_forward<bf16>(*a) : block_forward<float>(*a);
}

inline void block_backward_any(const Block* a) {
  if (a->dtype == FLOAT64) return block_backward<double>(*a);
  a->dtype == BFLOAT16 ? block_backward<bf16>(*a) : block_backward<float>(*a);
}

}  // namespace PICOJOULE_VARIANT
