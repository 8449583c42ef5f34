"""`picojoule measure`: saved models and models of a user's own file, every form of the result, every refusal."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from picojoule.data import load
from picojoule.exchange import save
from picojoule.experiment import measured as measuring
from picojoule.experiment.power import Measured
from picojoule.networks import Definition, build
from picojoule.neurons import LIF, Diffused
from picojoule.report import read_records

OWN = '''
"""A spiking network in the style of a Python loop, with nothing of picojoule in it."""

import torch
from torch import nn


class Leaky(nn.Module):
    def forward(self, current, membrane):
        membrane = 0.9 * membrane + current
        spikes = (membrane > 1).float()
        return spikes, membrane - spikes


class Net(nn.Module):
    def __init__(self, steps=3):
        super().__init__()
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(64, 20), Leaky()
        self.fc2, self.lif2 = nn.Linear(20, 10), Leaky()

    def forward(self, x):
        x = x.flatten(1)
        m1, m2, spikes = torch.zeros(len(x), 20), torch.zeros(len(x), 10), []
        for _ in range(self.steps):
            s1, m1 = self.lif1(self.fc1(x), m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
            spikes.append(s2)
        return torch.stack(spikes), m2


def make():
    torch.manual_seed(0)
    return Net()
'''
SCORES = "PICOJOULE = dict(scores=lambda output: output[0].sum(0))"
ENCODED = """
import picojoule
from own import Net as Own, torch


class Net(Own):
    def forward(self, x):
        m1, total = torch.zeros(x.shape[1], 20), 0
        for step in x:
            s1, m1 = self.lif1(self.fc1(step.flatten(1)), m1)
            total = total + self.fc2(s1)
        return total


def make():
    torch.manual_seed(0)
    return Net()


PICOJOULE = dict(encode=lambda images: torch.stack([(images > 0.5).float()] * 4), {more})
"""
BAD = """
import torch
from torch import nn


class Nothing(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        super().forward(x.flatten(1))


class NotANumber(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10))

    def forward(self, x):
        return self[2](self[1](self[0](x)) * float("nan"))


class Wide(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))


class Whole(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        return super().forward(x) if len(x) != 104 else super().forward(x[:, :, :4])


class NoLayers(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]


class Fourier(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        return super().forward(torch.fft.fft(x.flatten(1)).real)
"""
ASKED = {
    *("acs", "graded_events", "macs", "dense_macs", "neuron_updates", "timesteps", "samples", "energy_pj"),
    *("baselines", "crossover_rate", "layers", "uncounted", "hardware_notes", "counting", "cite", "commit"),
}
ASKED_OF_LAYERS = {
    *("name", "kind", "acs", "macs", "dense_macs", "events"),
    *("firing_rate", "silent_fraction", "saturated_fraction"),
}
FILES = {"record.json", "measurement.md", "measurement.csv", "report.html"}


@pytest.fixture
def files(tmp_path):
    """Model files in the working folder."""
    (tmp_path / "own.py").write_text(OWN + SCORES)
    (tmp_path / "plain.py").write_text(OWN)
    (tmp_path / "bad.py").write_text(BAD)
    torch.manual_seed(0)
    save(build(Definition("mlp", (1, 8, 8), 10, timesteps=2), LIF), tmp_path / "saved.safetensors")
    return tmp_path


@pytest.fixture
def measure(command, files):
    """The record of a measurement."""

    def run(*arguments: object) -> dict:
        said = command("measure", *arguments, "--json")
        assert said.code == 0, said
        assert said.out.count("\n") == 1 and said.err == ""
        return json.loads(said.out)

    return run


@pytest.mark.parametrize("model", ["saved.safetensors", "own.py:make"])
def test_json_has_what_was_promised(measure, model):
    record = measure(model)
    assert record.keys() >= ASKED
    assert all(layer.keys() >= ASKED_OF_LAYERS for layer in record["layers"])
    assert record["samples"] == 360 and record["model"] == model and record["made_by"] == "measure"
    assert set(record["energy_pj"]) == {"horowitz-45nm-fp32", "horowitz-45nm-fp32-memory"}
    assert record["energy_pj"]["horowitz-45nm-fp32"]["value"] == pytest.approx(
        4.6 * record["dense_macs"] + 0.9 * record["acs"], rel=1e-12
    )
    for quantity in ("acs", "graded_events", "macs", "dense_macs"):
        assert sum(layer[quantity] for layer in record["layers"]) == pytest.approx(record[quantity], rel=1e-12)
    assert record["uncounted"] == []


@pytest.mark.parametrize("name", ["model.h5", "model.H5"])
def test_a_keras_file_is_measured(command, tmp_path, name):
    """One dense layer on the pixels: every non-zero pixel is multiplied ten times."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "input", "batch_input_shape": [None, 8, 8, 1]}},
        {"class_name": "Flatten", "config": {"name": "flatten"}},
        {"class_name": "Dense", "config": {"name": "dense", "units": 10}},
    ]
    with h5py.File(tmp_path / name, "w") as file:
        config = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
        file.attrs["model_config"], file.attrs["backend"] = json.dumps(config), "tensorflow"
        file.attrs["keras_version"] = "2.15.0"
        dense = file.create_group("model_weights").create_group("dense")
        dense.attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
        dense["dense/kernel:0"], dense["dense/bias:0"] = np.ones((64, 10), "f"), np.zeros(10, "f")
    said = command("measure", name, "--data", "digits", "--json")
    assert said.code == 0, said.err
    record, images = json.loads(said.out), load("digits").test.images
    assert record["method"] == "ann" and record["network"] == name
    assert record["macs"] == pytest.approx(10 * float((images != 0).sum()) / len(images))


def test_a_model_of_ones_own_is_counted_as_by_hand(measure, files):
    from importlib.util import module_from_spec, spec_from_file_location

    from picojoule.data import intensities, load

    spec = spec_from_file_location("own_by_hand", files / "own.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    net, hidden = module.make(), []
    net.fc2.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    data = load("digits")
    x = intensities(data.test.images, data.scale)
    with torch.no_grad():
        spikes, _ = net(x)
    events = float(sum(h.sum() for h in hidden)) / 360
    record = measure("own.py:make")
    assert record["acs"] == pytest.approx(10 * events, rel=1e-9) and events > 0
    assert record["dense_macs"] == 3 * 64 * 20
    assert record["macs"] == pytest.approx(3 * 20 * float((x != 0).sum()) / 360, rel=1e-12)
    assert record["accuracy"] == int((spikes.sum(0).argmax(1) == data.test.labels).sum()) / 360
    assert record["neuron_updates"] == {"Leaky": 3 * 30} and record["timesteps"] == 3
    silent = float((sum(hidden).sum(0) == 0).float().mean())  # type: ignore[arg-type]
    assert record["layers"][0]["silent_fraction"] == pytest.approx(silent)


def test_without_scores_the_energy_is_known_and_the_accuracy_is_not(measure):
    with_scores, without = measure("own.py:make"), measure("plain.py:make")
    assert without["accuracy"] is None and without["energy_pj"] == with_scores["energy_pj"]
    assert any("accuracy is not known" in note and "a tuple" in note for note in without["counting"])


def test_a_declared_kind_and_batch_axis_are_used(measure, files):
    (files / "events.py").write_text(ENCODED.format(more="batch_dim=1, inputs=picojoule.Events(most=1)"))
    (files / "values.py").write_text(ENCODED.format(more="batch_dim=1"))
    events, values = measure("events.py:make"), measure("values.py:make")
    assert events["macs"] == 0 and values["macs"] > 0
    assert events["layers"][0]["acs"] == values["layers"][0]["macs"] > 0
    assert events["layers"][1]["acs"] == values["layers"][1]["acs"]
    assert events["accuracy"] == values["accuracy"] is not None
    assert any("declare inputs=picojoule.Events()" in note for note in values["counting"])
    assert not any("declare inputs" in note for note in events["counting"])


def test_weights_are_loaded(measure, files):
    net = nn.Sequential(nn.Linear(64, 20), nn.Linear(20, 10))
    state = {f"fc{n}.{key}": torch.zeros_like(t) for n in (1, 2) for key, t in net[n - 1].state_dict().items()}
    save_file(state, files / "zeros.safetensors")
    record = measure("own.py:make", "--weights", "zeros.safetensors")
    assert record["acs"] == 0 and record["macs"] == measure("own.py:make")["macs"]
    assert record["weights"] == "zeros.safetensors"
    skipped = measure("own.py:make", "--weights", "zeros.safetensors", "--skip-zero-weights")
    assert skipped["macs"] == skipped["dense_macs"] == 0
    assert any("zero are not counted" in note for note in skipped["counting"])


def test_conventions_and_neurobench_keys(measure):
    record = measure("own.py:make", "--convention", "all", "--neurobench", "--samples", "50")
    conventions = record["conventions"]
    assert {"picojoule", "neurobench", "syops", "keras-spiking", "literature-sop"} <= set(conventions)
    exact = record["acs"] + record["macs"]
    assert all(c["exact_operations"] == pytest.approx(exact, rel=1e-12) for c in conventions.values())
    keys = record["neurobench"]
    assert list(keys)[:3] == ["ParameterCount", "Footprint", "ConnectionSparsity"]
    assert keys["ParameterCount"] == 64 * 20 + 20 + 20 * 10 + 10
    assert keys["SynapticOperations"]["Effective_ACs"] == pytest.approx(record["acs"])
    assert keys["SynapticOperations"]["Dense"] == 3 * (64 * 20 + 20 * 10)
    alone = measure("own.py:make", "--neurobench", "--samples", "50")
    assert alone["neurobench"] == keys
    assert "neurobench" not in measure("own.py:make", "--samples", "50")


def test_the_measured_batches_do_not_change_the_result(measure, monkeypatch):
    whole = measure("own.py:make")
    monkeypatch.setattr("picojoule.experiment.feed.evaluation_batch", lambda model: 7)
    parts = measure("own.py:make")
    for key in ("acs", "macs", "accuracy", "neurons", "operations_percentiles"):
        assert parts[key] == whole[key], key


def test_a_density_moves_the_sparse_baseline(measure):
    percent, fraction = (measure("own.py:make", "--ann-density", d)["baselines"] for d in ("40%", "0.4"))
    assert percent == fraction and "density 0.4 as given" in percent["sparse-ann"]["note"]
    assert (
        measure("own.py:make", "--ann-density", "1")["baselines"]["sparse-ann"]["macs"] > percent["sparse-ann"]["macs"]
    )


def test_presentations_are_asked_for_or_those_of_the_model(measure, files):
    own = [measure("own.py:make", "--samples", "20", *more) for more in ((), ("--presentations", "3"))]
    assert [r["presentations"] for r in own] == [1, 3]
    assert own[1]["baselines"]["dense-ann"]["macs"] == 3 * own[0]["baselines"]["dense-ann"]["macs"]
    sequences = Definition("lmu-5x4", (1,), 10, timesteps=64, encoder="none", readout="last-step")
    save(build(sequences, lambda: Diffused("identity", 4.0)), files / "lmu.safetensors")
    found = measure("lmu.safetensors", "--data", "digits-sequence", "--samples", "20")
    assert found["presentations"] == 64 and found["layers"][-1]["name"] == "fc1"


def test_price_lists_by_path_and_all_of_them(measure, files):
    (files / "mine.toml").write_text(
        'extends = "horowitz-45nm-fp32"\nname = "mine"\ntitle = "t"\nscope = "s"\ncovers = "c"\n'
        '[prices]\nac = { value = 2.0, low = 1.0, high = 3.0, unit = "nJ per AC" }\n'
    )
    record = measure("own.py:make", "--hardware", "mine.toml,horowitz-45nm-fp32")
    energy = record["energy_pj"]["mine"]
    assert [energy[b] - 4.6 * record["dense_macs"] for b in ("low", "value", "high")] == pytest.approx(
        [1e3 * n * record["acs"] for n in (1, 2, 3)]
    )
    assert record["hardware"] == "mine" and record["sensitivity"]["mine"][0]["constant"] == "ac"
    every = measure("own.py:make", "--hardware", "all", "--samples", "5")
    assert len(every["energy_pj"]) > 20 and "truenorth" in every["energy_pj"]
    assert every["hardware"] == "horowitz-45nm-fp32", "baselines are priced as without --hardware"


def test_timesteps_of_a_saved_model(measure):
    one, four = (measure("saved.safetensors", "--timesteps", t) for t in (1, 4))
    assert one["timesteps"] == 1 and four["timesteps"] == 4
    assert four["neuron_updates"]["LIF"] == 4 * one["neuron_updates"]["LIF"]


def test_the_text_says_what_a_user_needs(command, files):
    said = command("measure", "own.py:make", "--convention", "syops")
    assert said.code == 0 and said.err == ""
    for words in (
        *("own.py:make on digits, test split, 360 samples, T = 3; all numbers per sample", "fc2    Linear     events"),
        *("arithmetic only", "bit-matched 2-bit ANN", "loses", "no rate wins", "Neuron health", "Most silent is"),
        *("reads ", "writes ", "syops-counter 0.0.5: Zero inputs", "How it was counted", "Not counted: nothing"),
    ):
        assert words in said.out, words
    assert max(map(len, said.out.splitlines())) <= 130
    assert "measured" not in said.out, "nothing was"


def test_a_wider_set_of_prices_says_what_moves_the_result_most(command, files):
    said = command("measure", "saved.safetensors", "--hardware", "horowitz-45nm-fp32-sram", "--samples", "20")
    assert "most moved by" in said.out and "memory (" in said.out and "is spent on" in said.out


def test_markdown_and_csv_are_all_of_stdout(command, files):
    markdown = command("measure", "own.py:make", "--format", "markdown", "--samples", "20")
    assert markdown.code == 0 and markdown.out.startswith("## own.py:make on digits")
    assert "| layer | operation |" in markdown.out and markdown.out.endswith(".\n")
    said = command("measure", "own.py:make", "--format", "csv", "--samples", "20", "--out", "m")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    record = json.loads(Path("m/record.json").read_text())
    assert [row["name"] for row in rows] == ["fc1", "fc2"]
    assert float(rows[1]["acs"]) == record["layers"][1]["acs"]
    assert float(rows[0]["energy_pj horowitz-45nm-fp32"]) == record["layers"][0]["energy_pj"]["horowitz-45nm-fp32"]
    assert rows[0]["firing_rate"] == "", "analog input has no rate"


def test_out_holds_every_form(command, files):
    said = command("measure", "own.py:make", "--out", "m", "--convention", "all", "--samples", "40")
    assert said.code == 0 and "m/report.html" in said.out
    assert {p.name for p in Path("m").iterdir()} == FILES
    record = json.loads(Path("m/record.json").read_text())
    page = Path("m/report.html").read_text()
    assert "Operations by layer" in page and "Against ANNs" in page and "syops-counter 0.0.5" in page
    assert command("report", "m/record.json", "--out", "again").code == 0
    assert Path("again/report.html").read_text() == page
    assert read_records("m/record.json") == [record]
    assert "Alpaydin" in command("cite", "m/record.json").out


def test_out_is_written_whole_or_not_at_all(command, files, monkeypatch):
    assert command("measure", "own.py:make", "--out", "m", "--samples", "10").code == 0
    before = {p.name: p.read_bytes() for p in Path("m").iterdir()}
    written = []

    def fails_at_the_third(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails_at_the_third)
    with pytest.raises(OSError, match="No space"):
        from picojoule.report import write_measurement

        write_measurement(json.loads(before["record.json"]) | {"accuracy": 1.0}, Path("m"))
    assert {p.name: p.read_bytes() for p in Path("m").iterdir()} == before


def test_seconds_without_a_sensor_and_joules_with_one(command, measure, monkeypatch):
    def sensed(joules: float | None, note: str):
        def power(run, samples, device):
            run()
            source = "" if joules is None else "RAPL package-0"
            return Measured(0.001, joules, source, note, None if joules is None else 3.0, 0.5, samples, 2)

        return power

    monkeypatch.setattr(measuring, "measured_power", sensed(None, "joules are not available: there is no sensor"))
    record = measure("own.py:make", "--power", "--samples", "30")["power"]
    assert record["joules_per_sample"] is None and record["calibration"] == {} and record["samples"] == 30
    text = command("measure", "own.py:make", "--power", "--samples", "30").out
    assert "1 ms per sample by wall-clock on cpu" in text and "Joules: not measured, there is no sensor." in text
    assert "Calibration" not in text
    monkeypatch.setattr(measuring, "measured_power", sensed(2e-6, "whole device"))
    record = measure("own.py:make", "--power", "--samples", "30")
    for name, line in record["power"]["calibration"].items():
        value = record["energy_pj"][name]["value"]
        assert line == {"estimated_pj": value, "measured_pj": 2e6, "error": pytest.approx(value / 2e6 - 1)}
    text = command("measure", "own.py:make", "--power", "--samples", "30").out
    assert (
        "2.00 µJ per sample measured by RAPL package-0" in text and "Calibration: horowitz-45nm-fp32 estimates" in text
    )


def test_a_sensorless_machine_is_really_timed(measure):
    power = measure("own.py:make", "--power", "--samples", "30")["power"]
    assert power["wall_s_per_sample"] > 0 and power["repeats"] > 0


REFUSED = [
    (("own.py:make", "--hardware", "horowitz-45nm-fp23"), "did you mean 'horowitz-45nm-fp32'"),
    (("own.py:make", "--hardware", "no.toml"), "cannot read the price list no.toml"),
    (("own.py:make", "--hardware", "no-unit.toml"), "no-unit.toml: the price 'ac' has no unit"),
    (("own.py:make", "--hardware", "twice.toml,again.toml"), "are called 'twice'"),
    (("own.py:make", "--convention", "neurobnch"), "did you mean 'neurobench'"),
    (("own.py:make", "--convention", ","), "at least one convention"),
    (("own.py:make", "--samples", "0"), "expected 1 to 360 test images"),
    (("own.py:make", "--samples", "361"), "expected 1 to 360 test images"),
    (("own.py:make", "--ann-density", "half"), "share from above 0 to 1, such as 40%"),
    (("own.py:make", "--ann-density", "0"), "share from above 0 to 1, such as 40%"),
    (("own.py:make", "--ann-density", "140%"), "share from above 0 to 1, such as 40%"),
    (("own.py:make", "--ann-density", "nan"), "share from above 0 to 1, such as 40%"),
    (("own.py:make", "--format", "markdwn"), "did you mean 'markdown'"),
    (("own.py:make", "--format", "csv", "--json"), "not both"),
    (("own.py:make", "--timesteps", "2"), "--timesteps is for saved models"),
    (("own.py:make", "--weights", "saved.safetensors"), "lacks fc1."),
    (("own.py:make", "--weights", "none.safetensors"), "there is no weights file"),
    (("saved.safetensors", "--weights", "saved.safetensors"), "leave --weights out"),
    (("own.py:mak",), "did you mean 'make'"),
    (("own.py",), "expected FILE.py:FACTORY"),
    (("none.py:make",), "there is no Python file none.py"),
    (("none.safetensors",), "there is no model file"),
    (("none.onnx",), "there is no model file"),
    (("bad.py:Nothing",), "to return a tensor, got NoneType"),
    (("bad.py:NotANumber",), "got NaN in what enters it"),
    (("bad.py:Wide",), "images [1, 8, 8] of digits: 1, Linear(in_features=784"),
    (("bad.py:Wide",), "got [3, 64]"),
    (("bad.py:Whole",), "bad.py:Whole failed on digits: RuntimeError"),
    (("bad.py:NoLayers",), "no linear operation of NoLayers could be counted"),
    (("axis.py:make",), "axis 0 is not the 3 images; declare batch_dim=1"),
    (("no_tensor.py:make",), "expected a tensor from encode of PICOJOULE, got list"),
    (("fails.py:make",), "encode of PICOJOULE failed on images [3, 1, 8, 8]: ZeroDivisionError"),
    (("scores.py:make",), "expected scores [3, classes] from scores of PICOJOULE, got [3, 3, 10]"),
]


@pytest.mark.parametrize("arguments, hint", REFUSED, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_refused_in_one_sentence(command, files, arguments, hint):
    own = '\ntitle = "t"\nscope = "s"\ncovers = "c"\nextends = "horowitz-45nm-fp32"\n'
    for name in ("twice", "again"):
        (files / f"{name}.toml").write_text(f'name = "twice"{own}')
    (files / "no-unit.toml").write_text(f'name = "no-unit"{own}[prices]\nac = {{ value = 1.0 }}\n')
    (files / "axis.py").write_text(ENCODED.format(more=""))
    for name, declared in (
        ("no_tensor", "encode=list"),
        ("fails", "encode=lambda images: 1 / 0"),
        ("scores", "scores=lambda output: output[0]"),
    ):
        (files / f"{name}.py").write_text(f"from own import make\nPICOJOULE = dict({declared})\n")
    before = sorted(files.iterdir())
    said = command("measure", *arguments, "--out", "results")
    assert said.code == 2 and said.out == "", said
    assert said.err.startswith("picojoule: ") and said.err.count("\n") == 1
    assert hint in said.err, said.err
    assert [p for p in sorted(files.iterdir()) if p.name != "__pycache__"] == before


def test_strict_refuses_what_is_listed_otherwise(command, measure):
    listed = measure("bad.py:Fourier")["uncounted"]
    assert listed
    said = command("measure", "bad.py:Fourier", "--strict")
    assert said.code == 2 and said.out == "" and "cannot count every operation" in said.err
    assert "not counted" in command("measure", "bad.py:Fourier").out.lower()


def test_a_mistake_of_ours_is_not_blamed_on_the_model(command, files, monkeypatch):
    monkeypatch.setattr("picojoule.energy.tally.summed", None)
    with pytest.raises(TypeError):
        command("measure", "own.py:make")


def test_help_loads_no_torch():
    code = (
        "import sys\nfrom picojoule.cli import main\n"
        "try:\n    main(['measure', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    for option in ("--weights", "--convention", "--ann-density", "--neurobench", "--power", "--format", "--strict"):
        assert option in said.stdout


def test_a_measurement_without_accuracy_is_reported_on_its_own(command, measure, files):
    record = measure("plain.py:make")
    assert record["accuracy"] is None
    (files / "plain.json").write_text(json.dumps(record))
    (files / "saved.json").write_text(json.dumps(measure("saved.safetensors")))
    said = command("report", "plain.json", "--out", "page")
    assert said.code == 0 and "Operations by layer" in said.out
    assert (files / "page" / "report.html").stat().st_size > 1000
    assert "| layer |" in command("report", "plain.json", "--markdown").out
    together = command("report", "plain.json", "saved.json", "--out", "both")
    assert together.code == 2 and "on its own" in together.err and not (files / "both").exists()


def test_events_over_time_are_measured_as_events(command, tmp_path):
    count, events = 1100, 30
    chance = np.random.default_rng(0)
    recorded = {
        **{k: chance.integers(34, size=count * events).astype(np.uint8) for k in ("x", "y")},
        "p": chance.integers(2, size=count * events).astype(np.uint8),
        "dt": np.full(count * events, 9000, np.uint16),
        "offset": events * np.arange(count + 1),
        "label": (np.arange(count) % 10).astype(np.uint8),
        "sample": np.r_[1:1001, 60001:60101].astype(np.int32),
    }
    np.savez(tmp_path / "nmnist-1100.npz", **recorded)
    here = ("--data", "nmnist", "--data-dir", str(tmp_path), "--json")
    size = ("--network", "mlp-1x8", "--epochs", "1", "--limit-train", "32", "--batch-size", "16")
    (trained,) = json.loads(command("train", "plain", *here, *size, "--out", "nm").out)["records"]
    record = json.loads(command("measure", trained["model"], *here).out)
    assert (record["acs"], record["accuracy"]) == (trained["acs"], trained["accuracy"])
    assert record["macs"] == 0 and record["acs"] > events * 8 / 2
    said = command("measure", trained["model"], *here, "--timesteps", "7")
    assert said.code == 2 and "has 20 time steps" in said.err
