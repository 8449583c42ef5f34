"""What the machine can do, measured between the implementations: copy bandwidth and the peak of matrix products."""

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from .case import Work
from .rounds import Task, Times

MIB = 2**20
CACHED, UNCACHED = 16 * MIB, 256 * MIB
SIDE = 2048


class Ceilings(NamedTuple):
    """Bytes per second (read and written ones both counted) and operations per second."""

    cached_copy: float
    uncached_copy: float
    fp32: float
    bf16: float

    def floor(self, work: Work, precision: str) -> float:
        """The least seconds for the work: products and memory traffic, one after the other."""
        bandwidth = self.cached_copy if work.cached else self.uncached_copy
        traffic = work.bf16_bytes if precision == "bf16" else work.bytes
        return work.flops / (self.bf16 if precision == "bf16" else self.fp32) + traffic / bandwidth


def ceiling_tasks() -> dict[str, Task]:
    """Copies into pages that are already there, by torch and by the C library, and square matrix products."""
    tasks: dict[str, Task] = {}
    for name, size in (("cached", CACHED), ("uncached", UNCACHED)):
        source, target = torch.ones(size, dtype=torch.uint8), torch.ones(size, dtype=torch.uint8)
        tasks[f"{name} copy, torch"] = _timed(_torch_copy(source, target))
        tasks[f"{name} copy, libc"] = _timed(_libc_copy(source, target))
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        tasks[name] = _timed(_product(torch.randn(SIDE, SIDE).to(dtype)))
    return tasks


def ceilings(times: Mapping[str, Times]) -> Ceilings:
    """From the median times of `ceiling_tasks`; the faster of the two ways to copy counts."""
    median = {name: statistics.median(found.sum) for name, found in times.items()}
    copies = {
        name: 2 * size / min(median[f"{name} copy, {way}"] for way in ("torch", "libc"))
        for name, size in (("cached", CACHED), ("uncached", UNCACHED))
    }
    fp32 = 2 * SIDE**3 / median["fp32"]
    return Ceilings(copies["cached"], copies["uncached"], fp32, max(fp32, 2 * SIDE**3 / median["bf16"]))


def _timed(run: Callable[[], object]) -> Task:
    """The second of two runs, so that the first brings the data to where it can be."""

    def task() -> tuple[float, float]:
        run()
        started = time.perf_counter()
        run()
        return time.perf_counter() - started, 0.0

    return task


def _torch_copy(source: Tensor, target: Tensor) -> Callable[[], object]:
    source, target = source.view(torch.float32), target.view(torch.float32)
    return lambda: target.copy_(source)


def _libc_copy(source: Tensor, target: Tensor) -> Callable[[], object]:
    """One part per thread; the C library streams past the cache what does not fit it."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    part = source.numel() // threads

    def copy(number: int) -> None:
        ctypes.memmove(target.data_ptr() + number * part, source.data_ptr() + number * part, part)

    return lambda: list(pool.map(copy, range(threads)))


def _product(a: Tensor) -> Callable[[], object]:
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)
