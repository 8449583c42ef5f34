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
from picojoule.experiment.method import Progress

ROOT = Path(__file__).parents[2]
PEERS = {"snntorch", "spikingjelly", "norse", "sinabs", "neurobench"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a document saves is not saved here."""
    monkeypatch.chdir(tmp_path)


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
    method = found["BusiestNeuron"](strength=0.5)
    scores, activity = pj.observe(method.build(definition), found["images"])(found["images"])
    terms = method.loss(scores, found["images"].new_zeros(16).long(), activity, Progress(0, 0, 1))
    assert set(terms) == {"task", "busiest-neuron"}
    assert terms["busiest-neuron"].item() == 0.5 * method.penalty(activity).item() > 0


def test_lmu(monkeypatch: pytest.MonkeyPatch):
    found = run("lmu.md", (ROOT / "docs/lmu.md").read_text(), monkeypatch)
    assert found["h"].shape == (24, 5, 20) and found["last"].shape == (1, 5, 20)


def test_the_declaration_in_the_guide_measures(monkeypatch: pytest.MonkeyPatch):
    found = run("guide.md", (ROOT / "docs/guide.md").read_text(), monkeypatch)
    declared = found["PICOJOULE"]
    spikes = declared["encode"](found["images"])
    assert spikes.shape[declared["batch_dim"]] == 16
    scores = declared["scores"](found["make"]()(spikes))
    assert scores.shape == (16, 10)


def test_synaptic_penalty(monkeypatch: pytest.MonkeyPatch):
    found = run("synaptic-penalty.md", (ROOT / "docs/methods/synaptic-penalty.md").read_text(), monkeypatch)
    reported = pj.count(found["activity"]).detach()
    hidden = [n for name, n in zip(reported.layers, reported.per_layer("acs"), strict=True) if name != "conv1"]
    assert found["accumulates"].item() == pytest.approx(float(sum(hidden)))
    assert 0 < found["share"].item() < found["network"].timesteps
    assert found["squared"].item() > found["accumulates"].item() / 2
    assert all(p.grad is not None for p in found["network"].parameters())


def test_first_spike(monkeypatch: pytest.MonkeyPatch):
    found = run("first-spike.md", (ROOT / "docs/methods/first-spike.md").read_text(), monkeypatch)
    sent = [n.sent.detach() for n in found["activity"].neurons]
    assert found["excess"].item() == pytest.approx(sum(float((n - 1).clamp(min=0).mean()) for n in sent) / len(sent))
    assert found["weighted"].item() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in found["network"].parameters())


def test_penalty_baselines(monkeypatch: pytest.MonkeyPatch):
    found = run("penalty-baselines.md", (ROOT / "docs/methods/penalty-baselines.md").read_text(), monkeypatch)
    assert all(penalty.item() >= 0 for penalty in found["penalties"].values())
    spikes, neurons = pj.count(found["activity"]).detach().events_sent, found["hidden_neurons"](found["activity"])
    assert found["penalties"]["total"].item() == pytest.approx(float(spikes) / neurons)
    grads = [p.grad for p in found["network"].parameters() if p.grad is not None]
    assert len(grads) > 6 and all(grad.isfinite().all() for grad in grads)


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
