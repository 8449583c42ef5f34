"""`picojoule convert`: from a model file to a spiking model, its record and its diagnosis."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from torch.nn import ReLU

from picojoule import report
from picojoule.errors import BadInput
from picojoule.exchange import archive, load, read_notes, save
from picojoule.experiment import converted as experiment
from picojoule.networks import Definition, build
from picojoule.neurons import IAF

REAL = Path(os.environ.get("PICOJOULE_DATA", ""))  # before the fixtures that hide it

FACTORY = """
import torch
from torch import nn
import torch.nn.functional as F
from picojoule.neurons import IAF

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(128, 10)

    def forward(self, x):
        return self.fc(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))

def make():
    return Small()

def gelu():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.GELU(), nn.Linear(9, 10))

def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def spiking():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), IAF(), nn.Linear(9, 10))
"""


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    """An ANN for digits as a model file."""
    out = tmp_path_factory.mktemp("ann")
    said = command("train", "ann", "--data", "digits", "--epochs", "8", "--json", "--out", out)
    assert said.code == 0, said.err
    return json.loads(said.out)["records"][0]


def converted(command, *arguments):
    said = command("convert", *arguments, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_exactly_the_steps_asked_for(command, tmp_path, trained):
    found = converted(command, trained["model"], "--data", "digits", "--timesteps", "16", "--out", tmp_path / "c")
    assert found["ann_accuracy"] == pytest.approx(trained["accuracy"])
    assert [point["timesteps"] for point in found["snn"]] == [1, 2, 4, 8, 16]
    last, record = found["snn"][-1], found["record"]
    assert last["accuracy"] == record["accuracy"] and last["acs"] == pytest.approx(record["acs"])
    assert {key: last[key] for key in ("macs", "dense_macs")} == pytest.approx(
        {key: record[key] for key in ("macs", "dense_macs")}
    )
    assert record["macs"] < record["dense_macs"], "images of digits have empty corners"
    assert last["energy_pj"] == pytest.approx(record["energy_pj"]["horowitz-45nm-fp32"]["value"])
    assert found["paired"]["loss"] == pytest.approx(found["ann_accuracy"] - last["accuracy"])
    assert found["chosen"]["timesteps"] == 16 and found["chosen"]["options"]["normalisation"] == "mmse"
    keys = {"name", "correlation", "max_error", "silent_fraction", "saturated_fraction"}
    assert found["layers"] and all(keys <= layer.keys() for layer in found["layers"])
    model = load(found["model"])
    assert model.timesteps == 16 and read_notes(found["model"])["conversion_of"] == trained["model"]
    assert {p.name for p in (tmp_path / "c").iterdir()} == {
        "model.safetensors", "record.json", "measurement.md", "measurement.csv", "report.html"
    }  # fmt: skip
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Accuracy after T steps" in page and found["suggestion"].split(":")[0].split("(")[0] in page
    for tag in ("title", "h1"):
        assert f"<{tag}>Conversion of model.safetensors on digits</{tag}>" in page
    assert "A trained network, converted into a spiking one of 16 steps." in page and "1 run" not in page
    heading = page.split('<section class="measured">')[1].split("</p>")[0]
    assert "Conversion of model.safetensors on digits, test split" in heading and "/" not in heading.split("<p>")[1]


def test_a_model_that_cannot_be_saved_is_refused_before_it_is_measured(command, tmp_path, trained, monkeypatch):
    monkeypatch.delitem(archive._LAYERS, IAF)
    monkeypatch.setattr(experiment, "converted", lambda *_, **__: pytest.fail("it was measured"))
    said = command("convert", trained["model"], "--data", "digits", "--timesteps", "2", "--out", tmp_path / "c")
    assert said.code == 2 and "cannot save" in said.err and len(said.err.splitlines()) == 1, said.err
    assert not (tmp_path / "c").exists()


def test_the_model_is_there_even_if_reports_cannot_be_written(command, tmp_path, trained, monkeypatch):
    def full(*_):
        raise BadInput("no space")

    monkeypatch.setattr(report, "write_measurement", full)
    said = command("convert", trained["model"], "--data", "digits", "--timesteps", "2", "--out", tmp_path / "c")
    assert said.code == 2 and load(tmp_path / "c" / "model.safetensors").timesteps == 2


def test_the_saved_model_measures_the_same(command, tmp_path, trained):
    found = converted(command, trained["model"], "--data", "digits", "--timesteps", "4", "--out", tmp_path / "c")
    again = json.loads(command("measure", found["model"], "--data", "digits", "--json").out)
    assert again["accuracy"] == found["record"]["accuracy"] and again["acs"] == pytest.approx(found["record"]["acs"])


def test_the_choice_is_made_within_the_tolerance(command, trained):
    found = converted(command, trained["model"], "--data", "digits", "--tolerance", "5pt", "--samples", "100")
    chosen = found["chosen"]
    assert chosen["within"] and chosen["validation_loss"] + chosen["validation_error"] <= 0.05
    assert found["model"] is None and found["tries"]
    for least in found["least"]:
        tried = [t for t in found["tries"] if t["loss"] + t["error"] <= least["loss"]]
        assert least["timesteps"] == min(t["timesteps"] for t in tried)
        assert least["energy_pj"] == min(t["energy_pj"] for t in tried)


def test_typed_options_are_held_while_choosing(command, trained):
    """Also those that are typed with the value of their default."""
    typed = ("--normalisation", "percentile", "--no-per-channel", "--samples", "50", "--choosing", "100")
    found = converted(command, trained["model"], "--data", "digits", "--tolerance", "5pt", *typed)
    assert {one["mode"] for one in found["tries"]} == {
        "percentile",
        "percentile, signed",
        "percentile, signed, pools pass",
        "percentile, bias correction",
    }
    options = found["chosen"]["options"]
    assert options["normalisation"] == "percentile" and not options["per_channel"]


def test_a_python_model_with_functional_layers(command, tmp_path):
    (tmp_path / "model.py").write_text(FACTORY)
    found = converted(command, "model.py:make", "--data", "digits", "--timesteps", "4")
    assert len(found["layers"]) == 1 and found["record"]["macs"] > 0 < found["record"]["acs"]


def camera(folder):
    """A made-up file of N-MNIST: class k has events in rows 3k to 3k + 2 of every fourth column."""
    draw, label, events = np.random.default_rng(0), np.arange(1100) % 10, 1100 * 200
    rows = np.repeat(3 * label, 200) + draw.integers(0, 3, events)
    arrays = {"x": 4 * draw.integers(0, 9, events), "y": rows, "p": draw.integers(0, 2, events), "label": label}
    np.savez(
        folder / "nmnist-1100.npz",
        **{key: array.astype(np.uint8) for key, array in arrays.items()},
        dt=np.full(events, 1_500, np.uint16),
        offset=np.arange(0, events + 1, 200),
        sample=np.r_[1:1001, 60_001:60_101].astype(np.int32),
    )


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_counts_of_an_event_camera(command, tmp_path, real):
    folder = REAL if real else tmp_path
    if not real:
        camera(tmp_path)
    elif not (folder / "nmnist-1100.npz").is_file():
        pytest.skip("PICOJOULE_DATA names no folder with nmnist-1100.npz")
    common = ("--data", "nmnist-frames", "--data-dir", folder)
    train = ("--network", "small-cnn", "--pool", "avg", "--epochs", "6" if real else "4", "--batch-size", "32")
    train += () if real else ("--limit-train", "320")
    assert command("train", "ann", *common, *train, "--out", "ann").code == 0
    options = ("--normalisation", "mmse", "--per-channel", "--timesteps", "16")
    found = converted(command, "ann/runs/ann_seed-0/model.safetensors", *common, *options)
    assert found["ann_accuracy"] >= (0.8 if real else 0.98) and found["paired"]["loss"] <= 0.05
    assert found["record"]["acs"] > 0


def test_what_it_prints(command, trained):
    said = command("convert", trained["model"], "--data", "digits", "--timesteps", "8", "--signed")
    assert said.code == 0
    assert said.out.startswith("Conversion of model.safetensors on digits, test split")
    for text in (
        "points lost (95 % interval",
        "T = 8 steps, mode: mmse by channel, signed.",
        "correlation",
        "bit-matched",
    ):
        assert text in said.out


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (("none.keras",), "there is no model file"),
        (("none.onnx",), "there is no model file"),
        (("MODEL", "--tolerance", "0.5"), "points"),
        (("MODEL", "--tolerance", "x%"), "points"),
        (("MODEL", "--tolerance", "1pt", "--timesteps", "4"), "not both"),
        (("MODEL", "--choosing", "0"), "--choosing"),
        (("MODEL", "--choosing", "50", "--timesteps", "4"), "leave it out"),
        (("MODEL", "--timesteps", "0"), "timesteps"),
        (("MODEL", "--percentile", "0"), "percentile"),
        (("MODEL", "--normalisation", "mean"), "normalisation"),
        (("MODEL", "--weights", "w.safetensors"), "--weights"),
        (("model.py:gelu",), "GELU"),
        (("model.py:linear",), "nothing to convert"),
        (("model.py:spiking",), "already spikes"),
    ],
)
def test_bad_input_is_one_sentence(command, tmp_path, trained, arguments, hint):
    (tmp_path / "model.py").write_text(FACTORY)
    given = [trained["model"] if a == "MODEL" else a for a in arguments]
    said = command("convert", *given, "--data", "digits", "--out", tmp_path / "out")
    assert said.code == 2 and hint in said.err and len(said.err.splitlines()) == 1, said.err
    assert not (tmp_path / "out").exists()


def test_another_dataset_is_refused(command, tmp_path, trained):
    (tmp_path / "wide.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 3))\n"
    )
    said = command("convert", "wide.py:make", "--data", "digits")
    assert said.code == 2 and "cannot take the images [1, 8, 8] of digits" in said.err
    assert "give the --data it was trained on" in said.err
    said = command("convert", "wide.py:make", "--data", "digits-sequence")
    assert said.code == 2 and "digits-sequence holds 64 steps over time, and conversion takes images" in said.err
    save(build(Definition("mlp", (1, 9, 9), 10), ReLU), "other.safetensors")
    said = command("convert", "other.safetensors", "--data", "digits")
    assert said.code == 2 and "takes images [1, 9, 9], digits has [1, 8, 8]" in said.err


def test_a_spiking_model_is_refused(command, tmp_path):
    said = command("train", "plain", "--data", "digits", "--epochs", "1", "--limit-train", "64", "--out", "p", "--json")
    model = json.loads(said.out)["records"][0]["model"]
    said = command("convert", model, "--data", "digits", "--timesteps", "4")
    assert said.code == 2 and "already spikes" in said.err and len(said.err.splitlines()) == 1, said.err


def test_recorded_conversions_become_a_table(command, tmp_path, trained):
    lines = []
    for n, options in enumerate((("--normalisation", "max"), ("--signed", "--residual", "0.4"))):
        found = converted(command, trained["model"], "--data", "digits", "--timesteps", str(4 * (n + 1)), *options)
        lines.append(json.dumps(found["record"]))
    (tmp_path / "conversions.jsonl").write_text("\n".join(lines))
    (tmp_path / "page.md").write_text("<!-- table: conversions.jsonl -->\n<!-- end table -->\n")
    assert command("report", "--update", "page.md").code == 0
    rows = [line.split(" | ") for line in (tmp_path / "page.md").read_text().splitlines() if line.startswith("|")]
    assert [row[2] for row in rows[2:]] == ["max", "mmse by channel, signed, tau 0.4"]
    assert [name.split(",")[0] for name in rows[0][4:8]] == ["T=1", "T=2", "T=4", "T=8"]
    first, second = (json.loads(line)["conversion"] for line in lines)
    losses = [100 * (found["ann_accuracy"] - found["snn"][-1]["accuracy"]) for found in (first, second)]
    assert rows[2][6] == f"{losses[0]:.2f}" and rows[2][7] == "" and rows[3][7] == f"{losses[1]:.2f}"
