// Vectors of one variant: as wide as the instruction set it is compiled for, in the compiler's own vector types.
//
// Everything of a variant lies in the namespace PICOJOULE_VARIANT, and none of it uses library templates that the
// compiler may leave outside: the linker would keep one copy for all variants, perhaps one this CPU cannot run.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define PICOJOULE_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define PICOJOULE_VECTOR_BYTES 32
#else
#define PICOJOULE_VECTOR_BYTES 16
#endif

namespace PICOJOULE_VARIANT {

constexpr int64_t VECTOR_BYTES = PICOJOULE_VECTOR_BYTES;

// Storage of 16 bits: the upper half of a float.
struct bf16 {
  uint16_t bits;
};

// Arithmetic on T happens in Compute<T>::type.
template <class T> struct Compute {
  using type = T;
};
template <> struct Compute<bf16> {
  using type = float;
};

template <class C> struct Lanes;
template <> struct Lanes<float> {
  using integer = int32_t;
  typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
  typedef int32_t mask __attribute__((vector_size(VECTOR_BYTES)));
};
template <> struct Lanes<double> {
  using integer = int64_t;
  typedef double vec __attribute__((vector_size(VECTOR_BYTES)));
  typedef int64_t mask __attribute__((vector_size(VECTOR_BYTES)));
};

template <class C> using Vec = typename Lanes<C>::vec;
template <class C> using Mask = typename Lanes<C>::mask;
template <class C> constexpr int64_t WIDTH = VECTOR_BYTES / int64_t(sizeof(C));

typedef uint16_t Half __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint32_t Word __attribute__((vector_size(VECTOR_BYTES)));

template <class To, class From> inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class C> inline Vec<C> broadcast(C value) { return Vec<C>{} + value; }

inline Vec<float> widen(Half half) { return bits_as<Vec<float>>(__builtin_convertvector(half, Word) << 16); }

// To the nearest, ties to even; the sign stays, also of what rounds to zero; NaN stays NaN.
inline Half narrow(Vec<float> x) {
  Word bits = bits_as<Word>(x);
  Word rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector((x == x) ? rounded : (bits >> 16 | 0x40), Half);
}

inline Vec<float> load(const float* from) {
  Vec<float> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline Vec<double> load(const double* from) {
  Vec<double> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline Vec<float> load(const bf16* from) {
  Half half;
  std::memcpy(&half, from, sizeof half);
  return widen(half);
}

inline void store(float* to, Vec<float> x) { std::memcpy(to, &x, sizeof x); }
inline void store(double* to, Vec<double> x) { std::memcpy(to, &x, sizeof x); }
inline void store(bf16* to, Vec<float> x) {
  Half half = narrow(x);
  std::memcpy(to, &half, sizeof half);
}

// The same past the caches, for results that nobody reads soon. `to` is aligned to a vector.
template <class To, class V> inline void stream_bits(To* to, V x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bits_as<__m512i>(x));
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(V) == 32) return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bits_as<__m256i>(x));
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(V) == 16) return _mm_stream_si128(reinterpret_cast<__m128i*>(to), bits_as<__m128i>(x));
#endif
  std::memcpy(to, &x, sizeof x);
}
inline void stream(float* to, Vec<float> x) { stream_bits(to, x); }
inline void stream(double* to, Vec<double> x) { stream_bits(to, x); }
inline void stream(bf16* to, Vec<float> x) { stream_bits(to, narrow(x)); }

// Starts loading what will be read soon; any address will do.
inline void prefetch(const void* address) { __builtin_prefetch(address); }

inline void end_of_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// The first n lanes only, 0 < n < WIDTH.
template <class S> inline Vec<typename Compute<S>::type> load_some(const S* from, int64_t n) {
  alignas(64) S padded[WIDTH<typename Compute<S>::type>] = {};
  std::memcpy(padded, from, n * sizeof(S));
  return load(padded);
}
template <class S, class V> inline void store_some(S* to, V x, int64_t n) {
  alignas(64) S padded[WIDTH<typename Compute<S>::type>];
  store(padded, x);
  std::memcpy(to, padded, n * sizeof(S));
}

template <class C> inline double sum_of(Vec<C> x) {
  double total = 0;
  for (int64_t lane = 0; lane < WIDTH<C>; ++lane) total += x[lane];
  return total;
}

template <class C> inline Mask<C> sign_bits() {
  using I = typename Lanes<C>::integer;
  return Mask<C>{} + std::numeric_limits<I>::min();
}

template <class C> inline Vec<C> magnitude(Vec<C> x) { return x < 0 ? -x : x; }

template <class C, int N> struct Inverse {
  static constexpr C factorial = Inverse<C, N - 1>::factorial / N;
};
template <class C> struct Inverse<C, 0> {
  static constexpr C factorial = 1;
};

// step(1 / N!), step(1 / (N - 1)!), ... step(1).
template <class C, int N, class F> inline void horner_all(F& step) {
  step(Inverse<C, N>::factorial);
  if constexpr (N > 0) horner_all<C, N - 1>(step);
}

// e^x by 2^k e^r with |r| <= ln(2)/2 and the Taylor sum of e^r: good to rounding for the type.
template <class C> inline Vec<C> exponential(Vec<C> x) {
  using I = typename Lanes<C>::integer;
  constexpr bool wide = sizeof(C) == 8;
  constexpr C most = wide ? C(708) : C(87);
  x = x > most ? broadcast<C>(most) : x;
  x = x < -most ? broadcast<C>(-most) : x;
  const Vec<C> scaled = x * C(1.4426950408889634);
  const Mask<C> k = __builtin_convertvector(scaled + (scaled < 0 ? broadcast<C>(C(-0.5)) : broadcast<C>(C(0.5))), Mask<C>);
  const Vec<C> whole = __builtin_convertvector(k, Vec<C>);
  const Vec<C> r = (x - whole * C(0.693145751953125)) - whole * C(1.4286068203094173e-06);
  constexpr int terms = wide ? 14 : 8;
  Vec<C> sum = broadcast<C>(Inverse<C, terms>::factorial);
  const auto horner = [&](C coefficient) { sum = sum * r + coefficient; };
  horner_all<C, terms - 1>(horner);
  constexpr int shift = wide ? 52 : 23;
  constexpr I bias = wide ? 1023 : 127;
  return sum * bits_as<Vec<C>>((k + bias) << shift);
}

}  // namespace PICOJOULE_VARIANT
