"""The blocks of docs/migration.md, run with the libraries that they are for, and what each says of its numbers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import picojoule as pj
from picojoule.energy import neurobench_keys

from .installed import needs

pytestmark = pytest.mark.filterwarnings("ignore")
DOCUMENT = Path(__file__).parents[2] / "docs" / "migration.md"
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]}


def layer(report: pj.EnergyReport, name: str) -> dict[str, Any]:
    return next(row for row in report.to_dict()["layers"] if row["name"] == name)


def snntorch(found: dict[str, Any]):
    assert layer(found["report"], "fc1")["acs"] == pytest.approx(found["synops"])
    assert layer(found["report"], "fc2")["kind"] == "events"
    assert found["report"].counts.updates_per_sample() == {"Leaky": 25 * 110}
    assert layer(found["steps"], "0")["acs"] == pytest.approx(found["synops"])
    assert found["steps"].counts.timesteps == 25


def spikingjelly(found: dict[str, Any]):
    first = pj.measure(found["net"], found["samples_first"][:1], inputs=pj.Events(most=1), run=by_step)
    assert found["synops"].get_total() == pytest.approx(8 * layer(first, "0")["acs"])
    assert found["macs"].get_total() > 0
    assert layer(found["report"], "5")["kind"] == "events"
    assert layer(found["report"], "5")["acs"] > 0
    assert found["steps"].counts.total("acs") == found["report"].counts.total("acs")


def by_step(net: Callable, x: torch.Tensor) -> list[torch.Tensor]:
    return [net(step) for step in x.unbind(1)]


def keras_spiking(found: dict[str, Any]):
    assert found["report"].conventions["keras-spiking"].joules["cpu"] == pytest.approx(8.64128e-4)


def neurobench(found: dict[str, Any]):
    keys = neurobench_keys(found["report"].conventions["neurobench"])
    assert keys["SynapticOperations"] == pytest.approx(found["results"]["SynapticOperations"])
    for key in ("Footprint", "ConnectionSparsity", "ActivationSparsity"):
        assert keys[key] == pytest.approx(found["results"][key])


def norse(found: dict[str, Any]):
    assert layer(found["report"], "net.2")["acs"] > 0
    assert found["report"].counts.updates_per_sample() == {"LIFCell": 10 * 32}


def sinabs(found: dict[str, Any]):
    conv, fc = (layer(found["report"], f"1.{n}") for n in (0, 4))
    assert fc["acs"] > 0
    assert found["synops"] == pytest.approx(conv["acs"] + fc["acs"] / 4)


CHECKS = {
    "snnTorch": (snntorch, "snntorch"),
    "SpikingJelly": (spikingjelly, "spikingjelly"),
    "KerasSpiking": (keras_spiking, "torch"),
    "NeuroBench": (neurobench, "neurobench"),
    "Norse": (norse, "norse"),
    "sinabs": (sinabs, "sinabs"),
}


def test_every_section_is_checked():
    assert list(SECTIONS) == list(CHECKS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(package)) for n, (_, package) in CHECKS.items()])
def test_a_section_runs_and_its_numbers_are_as_said(name: str):
    found: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", SECTIONS[name], re.DOTALL):
        exec(compile(code, f"migration.md, {name}", "exec"), found)
    assert not found["report"].uncounted
    CHECKS[name][0](found)
