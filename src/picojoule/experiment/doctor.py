"""What this installation can do, found by looking."""

import platform
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from picojoule.data import NAMES, load
from picojoule.errors import BadInput
from picojoule.experiment.power import Found, find_nvml, find_rapl
from picojoule.experiment.record import provenance
from picojoule.kernels.native.library import built_with, status


def findings(data_dir: Path | None = None) -> dict[str, str]:
    """Topics and what was found, as sentences."""
    made = provenance(torch.device("cpu"))
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    bf16 = "fast" if torch.cpu._is_avx512_bf16_supported() else "emulated"
    found = {
        "picojoule": f"{made['version']} (commit {made['commit'] or 'unknown'})",
        "python": f"{platform.python_version()} on {sys.platform}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "machine": made["machine"],
        "cuda": cuda,
        "bf16 on this CPU": bf16,
        "kernels": _kernels(),
        "kernels: build": built_with(),
        "joules of the CPU": _sensors(find_rapl()),
        "joules of the GPU": _sensors(find_nvml()),
        "plotly": version("plotly"),
        "pillow": version("pillow") if find_spec("PIL") else "not installed (cifar10, tiny-imagenet)",
    }
    return found | {f"data: {name}": _dataset(name, data_dir) for name in NAMES}


def _kernels() -> str:
    try:
        active, reason = status()
    except BadInput as error:
        return f"none: {error}"
    return f"{active}: {reason}"


def _sensors(found: Found) -> str:
    if not found.sensors:
        return f"not available: {found.reason}"
    return f"can be measured: {', '.join(sensor.name for sensor in found.sensors)}"


def _dataset(name: str, data_dir: Path | None) -> str:
    try:
        data = load(name, data_dir)
    except BadInput as error:
        return f"not found: {error}"
    return f"{len(data.train.labels)} train, {len(data.validation.labels)} validation, {len(data.test.labels)} test"
