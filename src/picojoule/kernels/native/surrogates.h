// The derivatives of kernels/surrogate.py, one row of values at a time.
#pragma once

#include "simd.h"

namespace PICOJOULE_VARIANT {

enum Surrogate : int32_t { TRIANGLE, RECTANGLE, ARCTAN, SIGMOID, S3NN, FAST_SIGMOID };

template <class C> inline Vec<C> sigmoid_slope(Vec<C> u, C alpha) {
  const Vec<C> s = 1 / (1 + exponential<C>(-alpha * u));
  return alpha * s * (1 - s);
}

template <class C> inline Vec<C> triangle(Vec<C> u, C width) {
  const Vec<C> height = 1 - magnitude<C>(u) / width;
  return (height < 0 ? Vec<C>{} : height) / width;
}

template <class C> inline Vec<C> rectangle(Vec<C> u, C width) {
  return magnitude<C>(u) <= width / 2 ? broadcast<C>(1 / width) : Vec<C>{};
}

template <class C> inline Vec<C> arctan(Vec<C> u, C alpha) {
  const Vec<C> x = C(1.5707963267948966) * alpha * u;
  return alpha / 2 / (1 + x * x);
}

template <class C> inline Vec<C> s3nn(Vec<C> u, C a, C b) {
  return u < 0 ? sigmoid_slope<C>(u, a) : b / (u + 1);
}

template <class C> inline Vec<C> fast_sigmoid(Vec<C> u, C slope) {
  const Vec<C> x = slope * magnitude<C>(u) + 1;
  return 1 / (x * x);
}

// slopes[j] = derivative(u[j]); both hold whole vectors.
template <class C> void slopes_of(Surrogate kind, C a, C b, const C* u, C* slopes, int64_t size) {
  const auto each = [&](auto derivative) {
    for (int64_t j = 0; j < size; j += WIDTH<C>) store(slopes + j, derivative(load(u + j)));
  };
  switch (kind) {
    case TRIANGLE: return each([=](Vec<C> x) { return triangle<C>(x, a); });
    case RECTANGLE: return each([=](Vec<C> x) { return rectangle<C>(x, a); });
    case ARCTAN: return each([=](Vec<C> x) { return arctan<C>(x, a); });
    case SIGMOID: return each([=](Vec<C> x) { return sigmoid_slope<C>(x, a); });
    case S3NN: return each([=](Vec<C> x) { return s3nn<C>(x, a, b); });
    case FAST_SIGMOID: return each([=](Vec<C> x) { return fast_sigmoid<C>(x, a); });
  }
}

}  // namespace PICOJOULE_VARIANT
