"""Wall-clock time, and joules from a sensor of the machine: RAPL for the processor, NVML for an NVIDIA GPU.

"Measured" is said of joules only when a sensor was read. The sensors see the whole processor package or GPU and
everything that runs on it, idle power included; the idle power just before is reported beside, not subtracted.
"""

import importlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import torch

from picojoule.errors import BadInput

POWERCAP = Path("/sys/class/powercap")


class Sensor(Protocol):
    """A counter of joules that only rises; at `wraps_at` joules, if not None, it starts again from 0."""

    @property
    def name(self) -> str: ...

    @property
    def wraps_at(self) -> float | None: ...

    def joules(self) -> float:
        """The counter now. Raises OSError, ValueError or RuntimeError when it cannot be read."""
        ...


class Found(NamedTuple):
    """Sensors, or the reason why there are none. `note` says what the sensors leave out."""

    sensors: tuple[Sensor, ...]
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """Wall-clock seconds and joules per sample, over `repeats` runs of the same workload.

    `joules_per_sample` is None where no sensor was read; it includes idle power, which was `idle_w` watts just
    before. `source` names the sensors, and `note` says what is in the number, or why there is none.
    """

    wall_s_per_sample: float
    joules_per_sample: float | None
    source: str
    note: str
    idle_w: float | None
    wall_s: float
    samples: int
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        wall = f"{1e3 * self.wall_s_per_sample:.4g} ms per sample by wall-clock"
        if self.joules_per_sample is None:
            return f"{wall}; {self.note}"
        idle = "" if self.idle_w is None else f"; {self.idle_w:.3g} W when idle"
        return f"{wall}; {1e3 * self.joules_per_sample:.4g} mJ per sample measured by {self.source}{idle}; {self.note}"


class JouleMeter:
    """Seconds of a `with` block, and the joules that sensors counted in it.

    A thread reads the sensors every `every_s` seconds, so that a counter that wraps around several times, or power
    that has to be integrated, is followed. After the block, `seconds` is the wall-clock time and `joules` the energy
    by sensor; `joules` is None, and `reason` says why, without a sensor or when one failed or never moved.
    """

    def __init__(self, sensors: tuple[Sensor, ...] = (), every_s: float = 0.05) -> None:
        self.seconds = 0.0
        self.joules: dict[str, float] | None = None
        self.reason = "" if sensors else "there is no sensor"
        self._sensors = sensors
        self._every_s = every_s
        self._over = threading.Event()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._sums = [0.0 for _ in self._sensors]
        self._last = [math.nan for _ in self._sensors]
        self._over.clear()
        self._read()
        if self._sensors and not self.reason:
            self._reader = threading.Thread(target=self._keep_reading, daemon=True)
            self._reader.start()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self._over.set()
        if self._reader is not None:
            self._reader.join()
        self._read()
        still = [s.name for s, joules in zip(self._sensors, self._sums, strict=True) if not joules > 0]
        if still and not self.reason:
            self.reason = f"{still[0]} did not move in {self.seconds:.3g} s"
        if not self.reason:
            self.joules = {s.name: joules for s, joules in zip(self._sensors, self._sums, strict=True)}

    def _keep_reading(self) -> None:
        while not self._over.wait(self._every_s) and not self.reason:
            self._read()

    def _read(self) -> None:
        for i, sensor in enumerate(self._sensors if not self.reason else ()):
            try:
                now = sensor.joules()
            except (OSError, ValueError, RuntimeError) as error:
                self.reason = f"{sensor.name} could not be read: {_said(error)}"
                return
            rise = 0.0 if math.isnan(self._last[i]) else now - self._last[i]
            if rise < 0 and sensor.wraps_at is None:
                self.reason = f"{sensor.name} went backwards"
                return
            self._sums[i] += rise if rise >= 0 else rise + (sensor.wraps_at or 0.0)
            self._last[i] = now


def measured_power(
    run: Callable[[], object],
    samples: int,
    device: torch.device | str = "cpu",
    *,
    sensors: Found | None = None,
    least_s: float = 5.0,
    idle_s: float = 1.0,
) -> Measured:
    """Wall-clock and, where a sensor can be read, joules of `run`, a workload of `samples` samples.

    `run` is called once to warm up, then again and again for at least `least_s` seconds in all, because counters rise
    in steps. Idle power is taken over `idle_s` seconds before; 0 leaves it out. `sensors` are by default those of
    `device`. Raises BadInput for numbers that make no sense.
    """
    if samples < 1:
        raise BadInput(f"expected a workload of at least 1 sample, got {samples}")
    if not (0 <= least_s < math.inf and 0 <= idle_s < math.inf):
        raise BadInput(f"expected least_s and idle_s of at least 0 seconds, got {least_s} and {idle_s}")
    found = find_sensors(device) if sensors is None else sensors
    run()
    _finish()
    idle_w = _idle_power(found.sensors, idle_s)
    repeats, start = 0, time.perf_counter()
    with JouleMeter(found.sensors) as meter:
        while repeats == 0 or time.perf_counter() - start < least_s:
            run()
            _finish()
            repeats += 1
    done = samples * repeats
    if meter.joules is None:
        note = f"joules are not available: {found.reason or meter.reason}"
        return Measured(meter.seconds / done, None, "", note, None, meter.seconds, samples, repeats)
    note = ". ".join(filter(None, ("whole device, everything that ran on it, idle power included", found.note)))
    return Measured(
        meter.seconds / done,
        sum(meter.joules.values()) / done,
        ", ".join(meter.joules),
        note,
        idle_w,
        meter.seconds,
        samples,
        repeats,
    )


def find_sensors(device: torch.device | str = "cpu") -> Found:
    """The sensors of what `device` computes with: RAPL, and for a CUDA device NVML, without which there are none."""
    device = torch.device(device)
    rapl = find_rapl()
    if device.type == "cpu":
        return rapl
    if device.type != "cuda":
        return Found((), f"no energy sensor of a device {device.type!r} is known")
    nvml = find_nvml(device)
    if not nvml.sensors:
        return nvml
    return Found(nvml.sensors + rapl.sensors, "", "" if rapl.sensors else f"without the processor: {rapl.reason}")


def find_rapl(root: Path = POWERCAP) -> Found:
    """RAPL counters of all processor packages, from the powercap files of Linux; a counter of DRAM is not added.

    All packages or none: the joules of one of two would be too few.
    Source: Linux kernel, Documentation/ABI/testing/sysfs-class-powercap (microjoules and their range), read.
    """
    try:
        zones = sorted(zone for zone in root.glob("intel-rapl:*") if zone.name.count(":") == 1)
        names = {zone: (zone / "name").read_text().strip() for zone in zones}
        packages = [_Rapl(zone, name) for zone, name in names.items() if name.startswith("package")]
        for package in packages:
            package.joules()
    except PermissionError as error:
        return Found((), f"{error.filename} may not be read by this user (`sudo chmod a+r` on it allows it)")
    except (OSError, ValueError) as error:
        return Found((), f"RAPL cannot be read: {_said(error)}")
    if not packages:
        return Found((), f"no RAPL processor package in {root} (a virtual machine or container often has none)")
    return Found(tuple(packages), "", "a counter of DRAM is not added")


def find_nvml(device: torch.device | str | None = None) -> Found:
    """The energy counter of an NVIDIA GPU, or of all of them, through `pynvml` (package nvidia-ml-py) if installed.

    A GPU without the counter (before Volta) has its power integrated instead, between the readings of a meter.
    Source: NVIDIA's reference of NVML, nvmlDeviceGetTotalEnergyConsumption (mJ) and nvmlDeviceGetPowerUsage (mW), read.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return Found((), "pynvml is not installed (`pip install nvidia-ml-py`)")
    try:
        nvml.nvmlInit()
        handles = [_handle(nvml, torch.device(device))] if device is not None else _handles(nvml)
        sensors = tuple(_gpu(nvml, handle) for handle in handles)
    except (nvml.NVMLError, RuntimeError, AssertionError) as error:
        return Found((), f"NVML cannot be read: {_said(error)}")
    return Found(sensors) if sensors else Found((), "NVML finds no GPU")


class _Rapl:
    def __init__(self, zone: Path, name: str) -> None:
        self.name = f"RAPL {name}"
        self.wraps_at = int((zone / "max_energy_range_uj").read_text()) / 1e6
        self._counter = zone / "energy_uj"

    def joules(self) -> float:
        return int(self._counter.read_text()) / 1e6


class _NvmlEnergy:
    wraps_at = None

    def __init__(self, nvml: Any, handle: Any, name: str) -> None:
        self.name, self._nvml, self._handle = name, nvml, handle

    def joules(self) -> float:
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        except self._nvml.NVMLError as error:
            raise RuntimeError(_said(error)) from error


class _NvmlPower:
    """Power integrated by the trapezoidal rule between readings."""

    wraps_at = None

    def __init__(self, nvml: Any, handle: Any, name: str) -> None:
        self.name, self._nvml, self._handle = f"{name} (sampled power)", nvml, handle
        self._sum, self._last = 0.0, (time.perf_counter(), math.nan)

    def joules(self) -> float:
        try:
            watts = self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3
        except self._nvml.NVMLError as error:
            raise RuntimeError(_said(error)) from error
        now, (before, old) = time.perf_counter(), self._last
        if not math.isnan(old):
            self._sum += (now - before) * (watts + old) / 2
        self._last = now, watts
        return self._sum


def _handles(nvml: Any) -> list[Any]:
    return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]


def _handle(nvml: Any, device: torch.device) -> Any:
    """The GPU that torch calls `device`: by UUID, because CUDA_VISIBLE_DEVICES renumbers devices for torch alone."""
    return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def _gpu(nvml: Any, handle: Any) -> Sensor:
    name = nvml.nvmlDeviceGetName(handle)
    name = f"NVML {name.decode() if isinstance(name, bytes) else name} {nvml.nvmlDeviceGetUUID(handle)}"
    energy = _NvmlEnergy(nvml, handle, name)
    try:
        energy.joules()
    except RuntimeError:
        power = _NvmlPower(nvml, handle, name)
        power.joules()
        return power
    return energy


def _idle_power(sensors: tuple[Sensor, ...], idle_s: float) -> float | None:
    """Watts of the sensors while this process waits; None where they cannot tell."""
    if not sensors or not idle_s:
        return None
    with JouleMeter(sensors) as meter:
        time.sleep(idle_s)
    return None if meter.joules is None else sum(meter.joules.values()) / meter.seconds


def _finish() -> None:
    """Wait for work that was handed to an accelerator."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
