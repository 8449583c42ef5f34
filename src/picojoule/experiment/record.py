"""The record of a run: one JSON line that says what was done, what came out, and how it was counted."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

import picojoule
from picojoule.energy import EnergyReport
from picojoule.errors import BadInput
from picojoule.files import write_text
from picojoule.graph import Site
from picojoule.kinds import Events

SCHEMA = 1
Record = dict[str, Any]


def energy_fields(report: EnergyReport) -> Record:
    """The part of a record that a measurement fills: counts, energies, health; all per sample."""
    return {
        **report.to_dict(),
        "hardware_notes": {h.name: {"scope": h.scope, "source": h.source, "prices": h.prices} for h in report.prices},
        "counting": counting_notes(report.sites),
        "hybrid": is_hybrid(report.sites),
    }


def is_hybrid(sites: Iterable[Site]) -> bool:
    """Whether real values enter trained layers beside spiking ones: not only the first layer, which sees the input."""
    kinds = [(site.trained, isinstance(site.kind, Events)) for site in sites]
    return (True, True) in kinds and (True, False) in kinds


def counting_notes(sites: Iterable[Site]) -> list[str]:
    """How the operations of these sites were counted, in sentences."""
    sites = list(sites)
    analog = [s.name for s in sites if not isinstance(s.kind, Events)]
    events = [s.name for s in sites if isinstance(s.kind, Events)]
    notes = []
    if analog:
        notes.append(
            f"Analog input, counted as multiply-accumulates once per time step it is computed: {', '.join(analog)}. "
            "A first layer before a constant current is computed once and its current reused."
        )
    if events:
        notes.append(f"Event input, counted as accumulates (events times exact fan-out): {', '.join(events)}.")
    notes.append("Padding taps are never counted; stride, groups, dilation and borders are exact.")
    notes.append(
        "Batch norm is taken as folded into the weights; bias adds, pooling, residual adds and the neurons' own "
        "updates are no synaptic operations and are not in ACs or MACs (neuron updates are listed separately)."
    )
    return notes


def provenance(device: torch.device) -> Record:
    """Where and by what a run was made."""
    return {
        "schema": SCHEMA,
        "version": picojoule.__version__,
        "commit": _commit(),
        "device": str(device),
        "machine": _machine(),
        "torch": torch.__version__,
    }


def write_records(path: Path, records: list[Record]) -> None:
    """Write records as JSON lines, in one step."""
    write_text(path, "".join(json.dumps(r, sort_keys=True) + "\n" for r in records))


def read_lines(path: Path) -> list[Record]:
    """The records of an earlier table; none if there is no file. Raises BadInput for anything else in it."""
    if not path.exists():
        return []
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        if not all({"run", "config", "pool"} <= record.keys() for record in found):
            raise ValueError("a line is no record of a run")
    except (ValueError, AttributeError, OSError) as error:
        raise BadInput(f"{path} does not hold records of runs ({error}); choose another --out") from None
    return found


@cache
def _commit() -> str | None:
    """The commit of the source tree this package runs from, "-dirty" if tracked files were changed."""
    here = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


@cache
def _machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{gpu}, {platform.system()}"
