"""One step: the options reach the network, the recipe's loss, and an ablation in one command."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picojoule.cells import Cell, WindowRNN
from picojoule.cli import main
from picojoule.energy import EnergyReport
from picojoule.errors import BadInput
from picojoule.experiment import loop
from picojoule.experiment.method import Progress
from picojoule.experiment.record import is_hybrid
from picojoule.graph import Observed, observe
from picojoule.methods import alternatives, make
from picojoule.networks import Definition, Network
from picojoule.neurons import LIF, WindowLIF, WindowNeuron
from picojoule.report import read_records, text_table
from picojoule.report.table import DEPTH_NOTE, HYBRID_NOTE

SMALL = Definition("mixer-cnn-4x2", (1, 8, 8), 10)


def built(wanted: Definition = SMALL, options: dict[str, str] | None = None) -> Network:
    method = make("one-step", None, options)
    torch.manual_seed(0)
    return method.build(method.definition(wanted, None)).eval()


def neurons(network: Network) -> list[WindowNeuron]:
    return [m for m in network.modules() if isinstance(m, WindowNeuron)]


def test_options_reach_the_cells():
    options = {"projection": "mean", "stitch": "any", "coding": "threshold", "overlap": "off"}
    cells = [m for m in built(options=options).modules() if isinstance(m, Cell)]
    shown = "projection=mean, stitch=any, encoder=threshold"
    assert len(cells) == 6 and all(shown in repr(cell) for cell in cells)
    assert all("window=4" in repr(cell) or "size=8" not in repr(cell) for cell in cells)
    assert {m.passes for m in built(options={"windows": "1"}).modules() if isinstance(m, Cell)} == {1}
    assert not any(isinstance(m, Cell) for m in built(options={"mixer": "off"}).modules())


def test_options_reach_the_neurons():
    assert all(not n.analog and (n.decay, n.threshold) == (0.4, 0.5) for n in neurons(built()))
    assert all(n.analog for n in neurons(built(options={"relu_twin": "on"})))
    learned = neurons(built(options={"learn_threshold": "on", "learn_decay": "on", "threshold": "0.7"}))
    assert len(learned) == 12 and all(n.threshold_log is not None and n.decay_logit is not None for n in learned)
    torch.testing.assert_close(torch.as_tensor(learned[0].threshold).detach(), torch.tensor(0.7))


CNN = Definition("small-cnn", (1, 8, 8), 10, pool="avg")


def test_other_networks_get_windows_and_neurons_with_the_same_constants():
    network = built(CNN, {"windows": "16", "projection": "mean"})
    found = [m for m in network.modules() if isinstance(m, LIF)]
    assert len(found) == 3 and all((n.decay, n.threshold) == (0.4, 0.5) for n in found)
    windows = [m for m in network.modules() if isinstance(m, WindowLIF)]
    assert [(m.across, m.projection) for m in windows] == [(4, "mean")] * 2
    assert network.timesteps == 1 and network.sequential_depth == 14
    assert built(CNN, {"windows": "1"}).sequential_depth == 1
    assert any(isinstance(m, nn.ReLU) for m in built(CNN, {"relu_twin": "on"}).modules())
    rnn = built(replace(CNN, name="spiking-rnn"), {"windows": "8"})
    assert [m.windows for m in rnn.modules() if isinstance(m, WindowRNN)] == [8]


def test_windows_that_a_mixer_does_not_have():
    with pytest.raises(BadInput, match="^mixer-cnn-4x2: expected windows=4 or windows=1, got 3"):
        built(options={"windows": "3"})


MLP, SEQUENCE = replace(CNN, name="mlp"), Definition("spiking-rnn", (1,), 10, timesteps=8, encoder="none")


@pytest.mark.parametrize(
    "wanted, options, windows",
    [(SMALL, {}, 4), (CNN, {}, 4), (CNN, {"windows": "16"}, 16), (MLP, {}, 1), (SEQUENCE, {}, 1)]
    + [(SMALL, {"relu_twin": "on"}, 4), (CNN, {"relu_twin": "on", "windows": "4"}, 1)],
)
def test_windows_that_are_left_open_are_those_that_a_network_takes(wanted, options, windows):
    method = make("one-step", None, options)
    definition = method.definition(wanted, None)
    assert method.settled(definition) == method.options() | {"windows": windows}
    assert (method.build(definition).sequential_depth > method.build(definition).timesteps) == (windows > 1)


def test_a_record_says_how_many_windows_ran(tmp_path):
    training = "train one-step --network mlp --epochs 1 --limit-train 64".split()
    with pytest.raises(SystemExit):
        main([*training, "--out", str(tmp_path), "--json"])
    torch.use_deterministic_algorithms(False)
    (record,) = read_records([tmp_path / "records.jsonl"])
    assert (record["options"]["windows"], record["sequential_depth"]) == (1, 1)


@pytest.mark.parametrize(
    "wanted, options, message",
    [
        (CNN, {"mixer": "off"}, "the option mixer is for mixers, such as mixer-cnn, got small-cnn; leave mixer out"),
        (CNN, {"stitch": "any"}, "the option stitch is for mixers"),
        (CNN, {"coding": "threshold"}, "the option coding is for mixers"),
        (MLP, {"overlap": "off"}, "the option overlap is for mixers, such as mixer-cnn, got mlp; leave overlap out"),
        (MLP, {"projection": "mean"}, "the option projection is for networks with maps, .* got mlp; leave projection"),
        (MLP, {"windows": "9"}, "^mlp: expected LIF or IAF neurons on maps for 9 windows"),
        (CNN, {"windows": "3"}, "^small-cnn: expected a square number of windows on maps, such as 4 or 9, got 3"),
        (SEQUENCE, {"windows": "4"}, "windows of spiking-rnn are rows of an image in one step, got a sequence"),
    ],
)
def test_options_that_a_network_has_no_use_for(wanted, options, message):
    with pytest.raises(BadInput, match=message):
        built(wanted, options)


def test_it_takes_no_penalty():
    with pytest.raises(BadInput, match="^one-step takes no penalty: expected penalties to add up"):
        make("synaptic-penalty+one-step")
    with pytest.raises(BadInput, match="^one-step is no penalty: expected penalties to add up"):
        make("one-step+synaptic-penalty")


def test_a_schedule_is_a_phase_for_every_number_of_time_steps():
    method = make("one-step", None, {"schedule": "4,2,1"})
    assert [(p.epochs, p.lr_scale, p.start) for p in method.phases(11)] == [
        (3, 1, "last"),
        (3, 0.5, "last"),
        (5, 0.5, "last"),
    ]
    network = method.build(method.definition(CNN, None))
    assert network.timesteps == 1
    for phase, timesteps in enumerate((4, 2, 1)):
        method.on_progress(network, Progress(phase, 0, 3))
        assert network.timesteps == timesteps
    assert len(make("one-step").phases(11)) == 1
    with pytest.raises(BadInput, match="expected at least 3 epochs for the schedule 4,2,1, got 2"):
        method.phases(2)
    with pytest.raises(BadInput, match="the schedule 4,2,1 ends with T = 1, and the network has 4 time steps"):
        method.definition(CNN, 4)


def test_a_scheduled_run_goes_on_bit_for_bit_and_records_what_it_learned(tmp_path, monkeypatch):
    """Each phase runs its own number of time steps, in validation too; a run that is cut anywhere ends the same."""
    options = ["--option.schedule=4,1", "--option.learn_decay=on", "--option.learn_threshold=on"]
    training = "train one-step --network small-cnn --epochs 2 --limit-train 96 --batch-size 32 --precision fp32".split()

    def run(name: str) -> None:
        with pytest.raises(SystemExit) as left:
            main([*training, *options, "--out", str(tmp_path / name), "--resume", "--json"])
        torch.use_deterministic_algorithms(False)
        assert left.value.code in (0, None)

    seen: list[int] = []
    evaluate = loop.evaluate

    def noted(observed: Observed, *rest: object) -> EnergyReport:
        report = evaluate(observed, *rest)  # pyright: ignore[reportArgumentType]
        seen.append(report.counts.timesteps)
        return report

    monkeypatch.setattr(loop, "evaluate", noted)
    run("whole")
    assert seen == [4, 1]
    (record,) = read_records([tmp_path / "whole" / "records.jsonl"])
    assert record["timesteps"] == 1 and [row["phase"] for row in record["history"]] == [0, 1]
    assert record["learned"].keys() == {"lif1", "lif2", "lif3"}
    for learned in record["learned"].values():
        assert learned["start"] == pytest.approx({"decay": 0.4, "threshold": 0.5})
        assert learned["end"].keys() == learned["start"].keys() and learned["end"] != learned["start"]

    step = loop.Trainer._save_if_due
    for cut in range(1, 7):  # behind every step of both epochs

        def stop(trainer: loop.Trainer, left: list[int] = [cut]) -> None:  # noqa: B006  (counts the calls)
            left[0] -= 1
            if not left[0]:
                trainer._save()
                raise loop.OutOfTime
            step(trainer)

        monkeypatch.setattr(loop.Trainer, "_save_if_due", stop)
        with pytest.raises(SystemExit):
            main([*training, *options, "--out", str(tmp_path / str(cut)), "--json"])
        torch.use_deterministic_algorithms(False)
        monkeypatch.setattr(loop.Trainer, "_save_if_due", step)
        run(str(cut))
        (again,) = read_records([tmp_path / str(cut) / "records.jsonl"])
        assert again["history"] == record["history"] and again["learned"] == record["learned"]


def test_training_goes_on_beside_silent_mixers():
    assert not make("one-step").silence_ends and make("plain").silence_ends


def test_labels_are_smoothed():
    scores, target = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    for text, smoothing in (("0.1", 0.1), ("0", 0.0)):
        method = make("one-step", None, {"label_smoothing": text})
        found = method.loss(scores, target, None, Progress(0, 0, 1))["task"]
        torch.testing.assert_close(found, F.cross_entropy(scores, target, label_smoothing=smoothing))


@pytest.mark.parametrize("name, depth", [("mixer-cnn-2", 48), ("mixer-rnn-2", 48), ("mixer-cnn-2x1", 16)])
def test_the_depth_is_every_window_pass(name, depth):
    wanted = Definition(name, (1, 32, 32), 10)
    assert built(wanted).sequential_depth == depth
    assert built(wanted).with_timesteps(4).sequential_depth == 4 * depth
    assert built(wanted, {"windows": "1"}).sequential_depth == 1 == built(wanted, {"mixer": "off"}).sequential_depth


def test_mixers_with_mlps_are_hybrid():
    x = torch.rand(2, 1, 8, 8)
    assert is_hybrid(observe(built(), x).sites)
    for switch in ({"mixer": "off"}, {"relu_twin": "on"}):
        assert not is_hybrid(observe(built(options=switch), x).sites)
    assert not is_hybrid(observe(built(Definition("small-cnn", (1, 8, 8), 10, pool="avg")), x).sites)


def test_an_ablation_changes_one_thing_at_a_time():
    options = {"windows": "4,1", "projection": "sincos,carry,zero", "decay": "0.3", "surrogate": "a,b"}
    found = alternatives("one-step", options)
    base = options | {"windows": "4", "projection": "sincos"}
    changes = [{k: v for k, v in one.items() if base[k] != v} for one in found]
    assert changes == [{}, {"windows": "1"}, {"projection": "carry"}, {"projection": "zero"}]
    assert all(one["surrogate"] == "a,b" for one in found)
    assert alternatives("plain", {"decay": "0.5,0.9"}) == [{"decay": "0.5,0.9"}]


MEASURED = (
    *("accuracy", "acs", "macs", "dense_macs", "synapses", "bias_adds", "timesteps", "sequential_depth", "hybrid"),
    *("neuron_updates", "silent_fraction", "energy_pj", "baselines", "crossover", "traffic", "network", "dataset"),
)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every number and word of nested data, by its path."""
    if not isinstance(tree, dict | list):
        return {path: tree}
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {k: v for name, part in parts for k, v in leaves(part, f"{path}/{name}").items()}


@pytest.mark.parametrize(
    "network, windows, depth", [("mixer-cnn-4x1", 4, 12), ("mixer-rnn-4x1", 4, 12), ("spiking-rnn", 4, 4)]
)
def test_a_measurement_repeats_the_record_of_training(network, windows, depth, tmp_path, capsys):
    def command(*words: object) -> dict:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([*map(str, words), "--json"])
        assert left.value.code in (0, None)
        return json.loads(capsys.readouterr().out)

    chosen = (f"--option.windows={windows}", "--network", network, "--epochs", 1, "--limit-train", 64, "--seeds", 3)
    command("train", "one-step", *chosen, "--out", tmp_path)
    (record,) = read_records([tmp_path / "records.jsonl"])
    of_file = ("measure", record["model"], "--hardware", ",".join(record["energy_pj"]))
    found = command(*of_file)
    assert leaves([found[key] for key in MEASURED]) == pytest.approx(leaves([record[key] for key in MEASURED]))
    assert (record["timesteps"], record["sequential_depth"], found["noise_seed"]) == (1, depth, 0)
    other = command(*of_file, "--seed", 1)
    assert other["noise_seed"] == 1 and other["seed"] == record["seed"] == 3
    assert (other["acs"] != found["acs"]) == network.startswith("mixer")


def test_an_ablation_is_one_table(tmp_path, capsys):
    lists = ["--option.mixer", "on,off", "--option.relu_twin=off,on"]
    training = "--network=mixer-cnn-2x1 --epochs=1 --limit-train=64 --warm-up=0.1 --clip=20".split()
    with pytest.raises(SystemExit) as left:
        main(["train", "one-step", *training, *lists, "--out", str(tmp_path), "--json"])
    torch.use_deterministic_algorithms(False)
    assert not left.value.code
    assert len(json.loads(capsys.readouterr().out)["records"]) == 3
    records = read_records([tmp_path / "records.jsonl"])
    by_options = {(r["options"]["mixer"], r["options"]["relu_twin"]): r for r in records}
    full, off, twin = (by_options[key] for key in ((True, False), (False, False), (True, True)))
    assert (full["timesteps"], full["sequential_depth"], off["sequential_depth"]) == (1, 12, 1)
    assert full["hybrid"] and not off["hybrid"] and not twin["hybrid"]
    assert full["acs"] > 0 and off["acs"] == twin["acs"] == 0 and twin["dense_macs"] > off["dense_macs"]
    assert full["neuron_updates"]["WindowNeuron"] > 0
    table = text_table(records)
    assert "hybrid" in table and "mixer=False" in table and "depth" in table
    assert DEPTH_NOTE in table and HYBRID_NOTE in table
    assert DEPTH_NOTE not in text_table([off]) and HYBRID_NOTE not in text_table([off])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mixer": "maybe"}, "unknown option mixer 'maybe'"),
        ({"windows": "0"}, "expected at least 1 window, got 0"),
        ({"schedule": "4,x"}, "expected a schedule of falling time steps such as 4,2,1, got '4,x'"),
        ({"schedule": "2,4"}, "expected a schedule of falling time steps such as 4,2,1, got '2,4'"),
        ({"schedule": "1,0"}, "expected a schedule of falling time steps such as 4,2,1, got '1,0'"),
        ({"projection": "sin"}, "unknown projection 'sin'"),
        ({"stitch": "or"}, "unknown stitch 'or'"),
        ({"coding": "relu"}, "unknown coding 'relu'"),
        ({"label_smoothing": "1"}, "expected label_smoothing from 0 to 1, got 1"),
        ({"threshold": "0"}, "expected threshold > 0"),
        ({"threshold": "inf"}, "expected threshold > 0 and finite, got inf"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(BadInput, match=message):
        make("one-step", None, options)
