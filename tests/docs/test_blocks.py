"""The code blocks of the documents run, and show what the text around them says."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import picojoule as pj
from picojoule.energy import QUANTITIES

ROOT = Path(__file__).parents[2]
PEERS = {"snntorch", "spikingjelly", "norse", "sinabs", "neurobench"}


def blocks(text: str) -> list[str]:
    """The python blocks of a document, those inside lists too."""
    found = re.findall(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in code.splitlines()) + "\n" for indent, code in found]


def run(document: str, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All blocks in one namespace, which is a module as pickling and dataclasses want it."""
    module = ModuleType("document_" + re.sub(r"\W", "_", document))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for number, code in enumerate(blocks(text), 1):
        exec(compile(code, f"{document}, block {number}", "exec"), vars(module))
    return vars(module)


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n- b\n\n  ```python\n  if x:\n      x = 2\n  ```\n```text\nno\n```\n"
    assert blocks(text) == ["x = 1\n", "if x:\n    x = 2\n"]


def test_guide(monkeypatch: pytest.MonkeyPatch):
    found = run("guide.md", (ROOT / "docs/guide.md").read_text(), monkeypatch)
    report = found["report"]
    assert [layer["kind"] for layer in report.to_dict()["layers"]] == ["events", "events"]
    gradient = found["net"][1].weight.grad
    assert gradient is not None and gradient.isfinite().all()
    definition = pj.Definition("mlp", (1, 8, 8), 10, timesteps=4)
    method = found["TotalSpikes"](strength=1e-3)
    scores, activity = pj.observe(method.build(definition), found["images"])(found["images"])
    terms = method.loss(scores, found["images"].new_zeros(16).long(), activity, None)
    assert set(terms) == {"task", "total"}
    assert terms["total"].item() > 0


def test_the_declaration_in_the_guide_measures(monkeypatch: pytest.MonkeyPatch):
    found = run("guide.md", (ROOT / "docs/guide.md").read_text(), monkeypatch)
    declared = found["PICOJOULE"]
    spikes = declared["encode"](found["images"])
    assert spikes.shape[declared["batch_dim"]] == 16
    scores = declared["scores"](found["make"]()(spikes))
    assert scores.shape == (16, 10)


def test_meter(monkeypatch: pytest.MonkeyPatch):
    from picojoule.metering import OPAQUE

    monkeypatch.setattr("picojoule.metering.rules.OPAQUE", OPAQUE)
    try:
        found = run("meter.md", (ROOT / "docs/meter.md").read_text(), monkeypatch)
    finally:
        OPAQUE.pop("mylib::fire", None)
    assert found["report"].counts.total("acs") > 0
    assert not found["report"].uncounted
    assert found["net"].conv.weight.grad is not None
    assert not found["net"]._forward_hooks and not found["net"]._forward_pre_hooks
    as_events = pj.measure(found["quantised"], [found["spikes"]], inputs=pj.Events(most=1))
    assert as_events.to_dict()["layers"][1]["kind"] == "events"
    assert found["as_values"].to_dict()["layers"][1]["kind"] == "values"


def test_migration_from_keras_spiking(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (section,) = re.findall(
        r"^## KerasSpiking\n(.*?)^## ", (ROOT / "docs/migration.md").read_text(), re.DOTALL | re.MULTILINE
    )
    found = run("migration.md", section, monkeypatch)
    assert found["report"].energy_pj["keras-spiking-cpu"].value == pytest.approx(8.64128e8)
    assert found["report"].conventions["keras-spiking"].joules["cpu"] == pytest.approx(8.64128e-4)


@pytest.mark.parametrize("document", ["guide.md", "meter.md"])
def test_no_peer_is_needed(document: str):
    imported = re.findall(r"^ *(?:import|from) (\w+)", "\n".join(blocks((ROOT / "docs" / document).read_text())), re.M)
    assert imported and not PEERS & set(imported)


@pytest.mark.parametrize("encoder", ["constant-current", "direct", "bernoulli", "latency"])
@pytest.mark.parametrize("network", ["mlp", "small-cnn", "cnn7", "spiking-rnn"])
def test_observer_and_meter_agree(network: str, encoder: str):
    """As the guide says; random encoders draw the same numbers under both."""
    shape = (1, 8, 8) if network == "spiking-rnn" else (1, 16, 16)
    model = pj.build(pj.Definition(network, shape, 10, timesteps=3, pool="avg", encoder=encoder), pj.LIF).eval()
    x = torch.rand(3, *shape)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        observed = pj.count(pj.observe(model, x)(x)[1])
        torch.manual_seed(1)
        with pj.meter(model) as meter:
            model(x)
            metered = pj.count(meter.activity())
    assert observed.total("synapses") > 0
    for quantity in QUANTITIES:
        assert float(metered.total(quantity)) == pytest.approx(float(observed.total(quantity))), quantity
    assert metered.updates == observed.updates
