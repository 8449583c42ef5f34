"""Joules are measured only when a sensor was read: made-up powercap files and a made-up NVML with known answers."""

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from picojoule.errors import BadInput
from picojoule.experiment import power
from picojoule.experiment.doctor import findings
from picojoule.experiment.power import Found, JouleMeter, find_nvml, find_rapl, find_sensors, measured_power

RANGE = 262_143_328_850  # microjoules, as a real package has


class Zone:
    """One made-up powercap zone; its counter is replaced in one step, so a reader never sees half of it."""

    def __init__(self, root: Path, zone: str, name: str, start: int = 0) -> None:
        self.folder = root / zone
        self.folder.mkdir(parents=True)
        (self.folder / "name").write_text(f"{name}\n")
        (self.folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.now = start
        self.add(0)

    def add(self, joules: float) -> None:
        self.now = (self.now + round(joules * 1e6)) % RANGE
        (self.folder / "new").write_text(f"{self.now}\n")
        os.replace(self.folder / "new", self.folder / "energy_uj")


@pytest.fixture
def package(tmp_path):
    return Zone(tmp_path, "intel-rapl:0", "package-0", start=5_000_000)


@pytest.fixture
def nvml(monkeypatch):
    """A made-up `pynvml` with one GPU that has used `joules` and draws `watts`."""

    class NVMLError(Exception):
        pass

    class Gpu(ModuleType):
        joules: Any = 100.0
        watts: Any = 50.0
        count = 1
        starts = True

    fake = Gpu("pynvml")

    def reading(name: str, factor: float):
        def read(handle: int) -> int:
            value = getattr(fake, name)
            if value is None:
                raise NVMLError("Not Supported")
            return round(value * factor)

        return read

    def init() -> None:
        if not fake.starts:
            raise NVMLError("Driver Not Loaded")

    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": init,
        "nvmlDeviceGetCount": lambda: fake.count,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetHandleByUUID": {"GPU-0abc": 0}.__getitem__,
        "nvmlDeviceGetName": lambda handle: b"Test GPU",
        "nvmlDeviceGetUUID": lambda handle: "GPU-0abc",
        "nvmlDeviceGetTotalEnergyConsumption": reading("joules", 1e3),
        "nvmlDeviceGetPowerUsage": reading("watts", 1e3),
    }
    for name, function in functions.items():
        setattr(fake, name, function)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_joules_per_sample_are_the_rise_of_the_counter(tmp_path, package):
    found = measured_power(lambda: package.add(3.0), 4, sensors=find_rapl(tmp_path), least_s=0, idle_s=0)
    assert found.joules_per_sample == pytest.approx(0.75, rel=1e-9)
    assert (found.source, found.samples, found.repeats, found.idle_w) == ("RAPL package-0", 4, 1, None)
    assert "idle power included" in found.note and "a counter of DRAM is not added" in found.note
    assert "750 mJ per sample measured by RAPL package-0" in str(found)
    assert found.to_dict()["joules_per_sample"] == found.joules_per_sample


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    zone = Zone(tmp_path, "intel-rapl:0", "package-0", start=RANGE - 1_000_000)
    with JouleMeter(find_rapl(tmp_path).sensors) as meter:
        zone.add(2.5)
    assert zone.now == 1_500_000
    assert meter.joules == {"RAPL package-0": pytest.approx(2.5)}


def test_a_counter_that_wraps_around_twice_is_followed(tmp_path, package):
    with JouleMeter(find_rapl(tmp_path).sensors, every_s=0.001) as meter:
        for _ in range(4):
            package.add(0.6 * RANGE / 1e6)
            while round(meter._last[0] * 1e6) != package.now:
                time.sleep(0.001)
    assert meter.joules == {"RAPL package-0": pytest.approx(2.4 * RANGE / 1e6)}


def test_packages_are_added_and_nothing_is_counted_twice(tmp_path):
    parts = [
        Zone(tmp_path, "intel-rapl:0", "package-0"),
        Zone(tmp_path, "intel-rapl:1", "package-1"),
        Zone(tmp_path, "intel-rapl:0:0", "core"),
        Zone(tmp_path, "intel-rapl:0:1", "dram"),
        Zone(tmp_path, "intel-rapl:2", "psys"),
        Zone(tmp_path, "intel-rapl-mmio:0", "package-0"),
    ]
    (tmp_path / "intel-rapl").mkdir()

    def run() -> None:
        for power_of_two, part in enumerate(parts):
            part.add(2**power_of_two)

    found = measured_power(run, 1, sensors=find_rapl(tmp_path), least_s=0, idle_s=0)
    assert found.joules_per_sample == pytest.approx(1 + 2)
    assert found.source == "RAPL package-0, RAPL package-1"


def test_one_package_that_may_not_be_read_makes_all_unavailable(tmp_path, package, monkeypatch):
    closed = Zone(tmp_path, "intel-rapl:1", "package-1").folder / "energy_uj"
    read = Path.read_text

    def refuse(self: Path, *arguments: Any, **options: Any) -> str:
        if self == closed:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = find_rapl(tmp_path)
    assert found.sensors == () and f"{closed} may not be read" in found.reason and "chmod a+r" in found.reason
    result = measured_power(lambda: package.add(1.0), 2, sensors=found, least_s=0)
    assert result.joules_per_sample is None and result.source == "" and result.idle_w is None
    assert "chmod a+r" in result.note and "measured" not in str(result)


def test_counters_that_hold_no_number(tmp_path, package):
    (package.folder / "energy_uj").write_text("many\n")
    assert "RAPL cannot be read: invalid literal" in find_rapl(tmp_path).reason


@pytest.mark.parametrize("zones", [[], ["psys"]])
def test_without_a_package_there_is_nothing_to_read(tmp_path, zones):
    for n, name in enumerate(zones):
        Zone(tmp_path, f"intel-rapl:{n}", name)
    assert "no RAPL processor package" in find_rapl(tmp_path).reason
    assert find_rapl(tmp_path / "gone").sensors == ()


def test_a_sensor_that_fails_or_stands_still_gives_no_joules(tmp_path, package):
    sensors = find_rapl(tmp_path)
    still = measured_power(lambda: None, 1, sensors=sensors, least_s=0, idle_s=0)
    assert still.joules_per_sample is None and "RAPL package-0 did not move in" in still.note

    def unplug() -> None:
        (package.folder / "energy_uj").unlink(missing_ok=True)

    with JouleMeter(sensors.sensors) as meter:
        package.add(1.0)
        unplug()
    assert meter.joules is None and "RAPL package-0 could not be read" in meter.reason


def test_a_failure_in_the_block_is_passed_on_and_stops_the_reader(tmp_path, package):
    meter = JouleMeter(find_rapl(tmp_path).sensors, every_s=0.001)
    with pytest.raises(KeyError), meter:
        raise KeyError("workload")
    assert meter._reader is not None and not meter._reader.is_alive()
    assert meter.seconds > 0


def test_wall_clock_is_that_of_the_workload_repeated_until_it_is_long_enough():
    calls = []

    def run() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.02)

    found = measured_power(run, 10, sensors=Found((), "none here"), least_s=0.1)
    assert found.repeats == len(calls) - 1, "the first call warms up"
    assert 1 <= found.repeats <= 5 and found.wall_s >= 0.1
    assert found.wall_s_per_sample == pytest.approx(found.wall_s / (10 * found.repeats))
    assert found.wall_s_per_sample >= 0.002
    assert found.note == "joules are not available: none here" and "measured" not in str(found)


def test_idle_power_is_reported_and_not_subtracted(package, tmp_path, monkeypatch):
    def idle(seconds: float) -> None:
        package.add(20.0 * seconds)

    clock = iter(range(100))
    monkeypatch.setattr(power.time, "sleep", idle)
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(clock))
    found = measured_power(lambda: package.add(8.0), 2, sensors=find_rapl(tmp_path), least_s=0, idle_s=1.0)
    assert found.idle_w == pytest.approx(20.0) and found.joules_per_sample == pytest.approx(4.0)
    assert "20 W when idle" in str(found)


@pytest.mark.parametrize("numbers", [{"least_s": -1.0}, {"least_s": float("nan")}, {"idle_s": float("inf")}])
def test_numbers_that_make_no_sense(numbers):
    with pytest.raises(BadInput, match="at least 0 seconds"):
        measured_power(lambda: None, 1, sensors=Found(()), **numbers)
    with pytest.raises(BadInput, match="at least 1 sample, got 0"):
        measured_power(lambda: None, 0, sensors=Found(()))


def test_the_energy_counter_of_a_gpu(nvml):
    def run() -> None:
        nvml.joules += 6.0

    found = measured_power(run, 3, sensors=find_nvml(), least_s=0, idle_s=0)
    assert found.joules_per_sample == pytest.approx(2.0)
    assert found.source == "NVML Test GPU GPU-0abc"


def test_without_an_energy_counter_power_is_integrated(nvml):
    nvml.joules = None
    with JouleMeter(find_nvml().sensors, every_s=0.001) as meter:
        time.sleep(0.1)
        nvml.watts = 150.0
        time.sleep(0.1)
    assert meter.joules is not None
    ((name, joules),) = meter.joules.items()
    assert name == "NVML Test GPU GPU-0abc (sampled power)"
    assert 18 < joules < 150 * meter.seconds + 5, "20 J if the pauses were exactly as long as asked"


def test_a_gpu_whose_counter_goes_backwards(nvml):
    with JouleMeter(find_nvml().sensors) as meter:
        nvml.joules -= 50.0
    assert meter.joules is None and "went backwards" in meter.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"starts": False}, "NVML cannot be read: Driver Not Loaded"),
        ({"count": 0}, "NVML finds no GPU"),
        ({"joules": None, "watts": None}, "NVML cannot be read: Not Supported"),
    ],
)
def test_an_nvml_that_cannot_be_read(nvml, change, reason):
    for name, value in change.items():
        setattr(nvml, name, value)
    assert find_nvml() == Found((), reason)


def test_pynvml_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pynvml is not installed" in find_nvml().reason


def test_the_sensors_are_those_of_the_device(nvml, tmp_path, package, monkeypatch):
    monkeypatch.setattr(power, "find_rapl", lambda: find_rapl(tmp_path))
    assert [s.name for s in find_sensors("cpu").sensors] == ["RAPL package-0"]
    assert "no energy sensor of a device 'mps'" in find_sensors("mps").reason

    class Properties:
        uuid = "0abc"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert [s.name for s in find_sensors("cuda").sensors] == ["NVML Test GPU GPU-0abc", "RAPL package-0"]
    (package.folder / "energy_uj").unlink()
    alone = find_sensors("cuda")
    assert len(alone.sensors) == 1 and alone.note.startswith("without the processor: RAPL cannot be read")
    nvml.starts = False
    assert find_sensors("cuda").sensors == (), "joules of the processor alone are not those of a GPU's work"


def test_doctor_says_what_can_be_read(monkeypatch, nvml, tmp_path, package):
    monkeypatch.setattr("picojoule.experiment.doctor.find_rapl", lambda: find_rapl(tmp_path))
    assert findings()["joules of the CPU"] == "can be measured: RAPL package-0"
    assert findings()["joules of the GPU"] == "can be measured: NVML Test GPU GPU-0abc"
    nvml.starts = False
    (package.folder / "energy_uj").unlink()
    assert findings()["joules of the CPU"].startswith("not available: RAPL cannot be read")
    assert findings()["joules of the GPU"] == "not available: NVML cannot be read: Driver Not Loaded"


def test_this_machine_answers_honestly():
    """Whatever sensors there are here, wall-clock is given, and joules have a source or a reason."""
    x = torch.rand(64, 64)
    found = measured_power(lambda: x @ x, 1, least_s=0.2, idle_s=0.1)
    assert 0 < found.wall_s_per_sample < found.wall_s + 1e-9
    if find_sensors("cpu").sensors:
        assert (found.joules_per_sample is None) == ("not available" in found.note)
    else:
        assert found.joules_per_sample is None and find_sensors("cpu").reason in found.note
