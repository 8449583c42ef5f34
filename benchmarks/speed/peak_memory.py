"""Peak memory of one implementation, alone in a fresh process."""

import ctypes
import gc
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .case import Case, Implementation

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")


class Peak(NamedTuple):
    """Bytes above imports and data, with the allocator as it is and with page reuse, whose heap fragments."""

    plain: float
    reused: float

    def scaled(self, factor: float) -> "Peak":
        return Peak(self.plain * factor, self.reused * factor)


def peak_of(case: Case, implementation: Implementation, flags: list[str]) -> Peak:
    """What two steps need, measured by two child processes."""
    return Peak(*(_child(case, implementation, [*flags, *more]) for more in ([], ["--reuse"])))


def _child(case: Case, implementation: Implementation, flags: list[str]) -> int:
    command = [sys.executable, "-m", "benchmarks.speed", *flags, "--peak", case.title, implementation.name]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{implementation.name} failed alone in {case.title}: {last}")
    return int(run.stdout.split()[-1])


def measure_peak(case: Case, implementation: Implementation) -> int:
    """The child's part: two steps, and how far the resident memory rose."""
    data = case.data()
    _import_everything(implementation, data)
    before = _start_peak()
    step = implementation.make(data)
    for _ in range(2):
        out = step.forward()
        if step.backward is not None:
            step.backward(out)
        del out
    return _peak() - before


def _import_everything(implementation: Implementation, data: Any) -> None:
    """What is imported or set up at the first use of a library or of torch is no memory of the implementation."""
    implementation.make(data)
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2, 2))
    optimiser = torch.optim.Adam(layers.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        layers(torch.ones(1, 1, 3, 3)).sum().backward()
    optimiser.step()
    gc.collect()


def _start_peak() -> int:
    """The resident bytes now, without free pages, from which the peak is counted anew where the system allows it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        pass
    return _peak()


def _peak() -> int:
    """The highest resident bytes of this process.

    `getrusage` would report the peak of the parent too, which a child inherits when it is started, so Linux's own
    account of this process comes first.
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
