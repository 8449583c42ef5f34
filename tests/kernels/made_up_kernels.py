"""A small source tree with the functions that the real library exports, and compilers that misbehave."""

import os
import platform
import stat
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from picojoule.kernels.native.build import VARIANTS, Built, build

NAMES = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
COMPILER = next((name for name in NAMES if which(name)), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, or CXX is not a single word")

VARIANT = """
#include "shared.h"
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
int JOIN(own_, PICOJOULE_VARIANT)() { return INSTRUCTION_SET; }
int JOIN(shared_, PICOJOULE_VARIANT)() { return shared(); }
"""

SHARED = """
#if defined(__AVX512F__)
#define INSTRUCTION_SET 512
#elif defined(__AVX2__)
#define INSTRUCTION_SET 2
#else
#define INSTRUCTION_SET 1
#endif
// Emitted once for each variant, under one name.
inline __attribute__((noinline)) int shared() { return INSTRUCTION_SET; }
"""

LIBRARY = """
#include <atomic>
#include <cstdint>
#include <cstring>
#define EXPORTED extern "C" __attribute__((visibility("default")))
#ifndef LACKING
#define LACKING "nothing"
#endif
int own_portable(), shared_portable(), own_avx2(), shared_avx2(), own_avx512(), shared_avx512();
struct Variant { const char* name; int (*own)(); int (*shared)(); };
static const Variant variants[] = {
#ifdef PICOJOULE_HAS_AVX512
    {"avx512", own_avx512, shared_avx512},
#endif
#ifdef PICOJOULE_HAS_AVX2
    {"avx2", own_avx2, shared_avx2},
#endif
    {"portable", own_portable, shared_portable},
};
static const Variant* selected = nullptr;
using Body = void (*)(int64_t, int64_t, void*);
using ParallelFor = int (*)(int64_t, int64_t, int64_t, Body, void*);
static ParallelFor parallel_for = nullptr;

EXPORTED int picojoule_abi() { return 1; }
EXPORTED const char* picojoule_build() { return PICOJOULE_BUILD; }
EXPORTED const char* picojoule_sources() { return PICOJOULE_SOURCES; }
EXPORTED const char* picojoule_selected() { return selected->name; }
EXPORTED void picojoule_set_parallel_for(void* address) { parallel_for = reinterpret_cast<ParallelFor>(address); }
EXPORTED int picojoule_select(const char* name) {
  for (const Variant& variant : variants)
    if (std::strcmp(variant.name, LACKING) && (!std::strcmp(name, variant.name) || !std::strcmp(name, "auto"))) {
      selected = &variant;
      return 1;
    }
  return 0;
}
EXPORTED int own() { return selected->own(); }
EXPORTED int shared_with_others() { return selected->shared(); }
EXPORTED int has_threads() { return parallel_for != nullptr; }
EXPORTED int64_t sum_below(int64_t end) {
  std::atomic<int64_t> sum{0};
  parallel_for(0, end, 1, [](int64_t begin, int64_t end, void* sum) {
    for (int64_t i = begin; i < end; ++i) *static_cast<std::atomic<int64_t>*>(sum) += i;
  }, &sum);
  return sum;
}
"""


def made_up_sources(folder: Path, **changed: str) -> Path:
    """`folder` with a source tree that compiles in a second; `changed` puts a line in front of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"variant.cpp": VARIANT, "shared.h": SHARED, "library.cpp": LIBRARY}.items():
        (folder / name).write_text(changed.get(name.split(".")[0], "") + "\n" + text)
    return folder


def built_here(folder: Path, **changed: str) -> Built:
    """A made-up tree with its library beside it, as after an editable install."""
    return build(made_up_sources(folder, **changed), folder)


def compiler_script(path: Path, body: str) -> Path:
    """A compiler that is a shell script; `--version` answers as a compiler would."""
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "made-up C++ 1.0"; exit 0; }}\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def python(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter with just this environment."""
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def on_x86() -> bool:
    """Whether this machine builds every variant."""
    return platform.machine().lower() in ("x86_64", "amd64")


EVERY = list(VARIANTS) if on_x86() else ["portable"]
