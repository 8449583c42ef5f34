"""Training: order, schedule, selection, golden losses, precision; and what the record says."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from picojoule.data import Dataset, intensities, limited, load
from picojoule.energy import EnergyReport
from picojoule.energy.price import hardware_names
from picojoule.experiment import evaluate, loop
from picojoule.experiment.checkpoint import load_checkpoint
from picojoule.experiment.config import Training
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.method import Method, Phase, Progress, task_loss
from picojoule.experiment.progress import Progressbar
from picojoule.experiment.record import counting_notes, energy_fields
from picojoule.graph import observe
from picojoule.methods import make
from picojoule.methods.plain import Plain
from picojoule.networks import Definition, Network

CPU = torch.device("cpu")


def trainer(folder, method: Method | None = None, seed: int = 0, train: int = 256, name="mlp", **settings):
    """A trainer at its start, and its network."""
    method = method or make("plain")
    training = Training(network=name, **settings).decided()
    data = limited(load("digits"), train=train)
    job = Job(Setting(data, training, "max", folder, CPU), method, seed)
    torch.manual_seed(seed)
    network = method.build(job.definition)
    return loop.Trainer(job, network, Progressbar("", quiet=True))


def order(at: loop.Trainer, epoch: int, phase: int = 0) -> list[list[int]]:
    return [rows.tolist() for rows in at._batches(Progress(phase, epoch, 5))]


def test_the_order_of_batches_depends_on_seed_and_epoch_alone(tmp_path):
    first = order(trainer(tmp_path), 3)
    other = trainer(tmp_path, make("synaptic-penalty"), epochs=7, lr=0.1, encoder="direct")
    torch.rand(100)
    other._at.step = 2
    assert order(other, 3) == first
    different = [order(trainer(tmp_path), 2), order(trainer(tmp_path, seed=1), 3), order(trainer(tmp_path), 3, 1)]
    assert all(rows != first for rows in different)
    assert different[0] != different[1]


@pytest.mark.parametrize("size, batch, lengths", [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3])])
def test_every_image_comes_once_and_no_batch_is_too_small(tmp_path, size, batch, lengths):
    batches = order(trainer(tmp_path, train=size, batch_size=batch), 0)
    assert [len(rows) for rows in batches] == lengths
    seen = sorted(row for rows in batches for row in rows)
    assert len(set(seen)) == sum(lengths) and set(seen) <= set(range(size))


def test_the_rate_falls_by_a_cosine_over_all_steps(tmp_path):
    at = trainer(tmp_path, lr=0.01)
    rates = []
    for epoch in range(5):
        for at._at.step in range(4):
            at._set_rate(Phase(5, lr_scale=0.5), at._now(Progress(0, epoch, 5), 4))
            rates.append(at._optimiser.param_groups[0]["lr"])
    expected = [0.005 * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def scripted(monkeypatch):
    """Lets `evaluate` report these accuracies and accumulates by epoch, whatever the network."""
    real = loop.evaluate

    def script(accuracies, acs=None):
        left = iter(zip(accuracies, acs or [1.0] * len(accuracies), strict=True))

        def report(*given):
            accuracy, spent = next(left)
            counts = SimpleNamespace(total={"acs": spent}.__getitem__)
            return replace(real(*given), accuracy=accuracy, counts=counts)

        monkeypatch.setattr(loop, "evaluate", report)

    return script


@pytest.mark.parametrize(
    "accuracies, acs, chosen",
    [
        ([0.9] * 8 + [0.5, 0.4], None, 9),
        ([0.9] * 8 + [0.4, 0.5], None, 10),
        ([0.1] * 7 + [1.0, 0.2, 0.2], None, 10),
        ([0.5], None, 1),
        ([0.9, 0.1, 0.1], None, 3),
        ([0.9, 0.8, 0.8, 0.7, 0.6], None, 5),
        ([0.1] * 15 + [0.2, 0.3, 0.9, 0.9, 0.4], None, 19),
        ([0.1] * 15 + [0.9, 0.3, 0.3, 0.3, 0.3], None, 20),
        ([0.9] * 8 + [0.5, 0.5], [1] * 8 + [2, 3], 9),
        ([0.9] * 8 + [0.5, 0.4995], [1] * 8 + [2, 1], 10),
        ([0.9] * 8 + [0.5, 0.4985], [1] * 8 + [2, 1], 9),
        ([0.9] * 8 + [0.4995, 0.5], [1] * 8 + [2, 3], 9),
        ([0.9] * 8 + [0.498, 0.5], [1] * 8 + [2, 3], 10),
        ([0.9] * 12 + [0.5, 0.5008, 0.5016], [1] * 12 + [1, 2, 3], 15),
    ],
    ids=str,
)
def test_the_checkpoint_is_selected_in_the_last_fifth(tmp_path, monkeypatch, scripted, accuracies, acs, chosen):
    """Among the last fifth of the epochs the best counts; of those as good to 0.1 point the one that spends least."""
    scripted(accuracies, acs)
    at = trainer(tmp_path, train=32, epochs=len(accuracies), batch_size=32)
    after: list[dict[str, Tensor]] = []
    save = at._save

    def remember():
        after.append({k: v.clone() for k, v in at._network.state_dict().items()})
        save()

    monkeypatch.setattr(at, "_save", remember)
    network, history, _ = at.run()
    assert [row["validation_accuracy"] for row in history] == accuracies
    assert len(after) == len(accuracies)
    for epoch, state in enumerate(after, 1):
        same = all(torch.equal(network.state_dict()[k], v) for k, v in state.items())
        assert same == (epoch == chosen), epoch


@dataclass(frozen=True)
class TwoPhases(Plain):
    """Trains twice; the second time from the best of the first, on one term, slowly."""

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (Phase(2), Phase(1, lr_scale=1e-9, start="best", terms=("task",)))

    def loss(self, output, target, activity, progress):
        return task_loss(output, target) | {"other": torch.tensor(float(progress.phase))}


def test_a_later_phase_can_start_from_the_best_and_drop_terms(tmp_path, monkeypatch, scripted):
    scripted([0.9, 0.2, 0.3])
    monkeypatch.setattr(loop, "SELECTION_WINDOW", 1.0)
    at = trainer(tmp_path, TwoPhases(), train=64, lr=0.1)
    network, history, _ = at.run()
    assert [(row["phase"], row["epoch"]) for row in history] == [(0, 1), (0, 2), (1, 1)]
    assert "loss_other" in history[1] and "loss_other" not in history[2]
    scripted([0.9, 0.2])
    best, _, _ = trainer(tmp_path / "first", train=64, lr=0.1, epochs=2).run()
    for key, parameter in best.named_parameters():
        assert torch.allclose(network.get_parameter(key), parameter, atol=1e-6), key


GOLDEN = {
    "plain": {"task": [2.314106, 2.219781, 2.176708, 2.101460]},
    "synaptic-penalty": {
        "task": [2.314106, 2.222631, 2.176937, 2.089475],
        "synaptic-penalty": [0.282137, 0.282184, 0.279751, 0.280546],
    },
}


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_of_the_first_four_steps(tmp_path, name):
    """Golden numbers: a change here changes what every training run learns."""
    at = trainer(tmp_path, make(name, 1.5), name="small-cnn", timesteps=2, epochs=5, lr=2e-3)
    progress = Progress(0, 0, 5)
    batches = at._batches(progress)
    at._model.train()
    found: dict[str, list[float]] = {term: [] for term in GOLDEN[name]}
    for rows in batches:
        before = dict(at._sums)
        at._set_rate(Phase(5), at._now(progress, len(batches)))
        at._step(rows, Phase(5), progress)
        at._at.step += 1
        assert at._sums.keys() == found.keys()
        for term, losses in found.items():
            losses.append(at._sums[term] - before.get(term, 0.0))
    for term, losses in found.items():
        assert losses == pytest.approx(GOLDEN[name][term], abs=1e-4), losses


@pytest.mark.parametrize("name", ["ann", "plain", "synaptic-penalty"])
def test_bf16_trains_and_measures_in_float32(tmp_path, name):
    at = trainer(tmp_path, make(name), train=128, epochs=4, batch_size=16, precision="bf16", name="small-cnn")
    assert all(p.dtype == torch.float32 for p in at._network.parameters())
    network, history, _ = at.run()
    losses = [sum(v for k, v in row.items() if k.startswith("loss_")) for row in history]
    assert all(math.isfinite(loss) for loss in losses) and history[-1]["loss_task"] < history[0]["loss_task"]
    assert all(p.dtype == torch.float32 for p in network.parameters())
    exact, _, _ = trainer(tmp_path / "fp32", make(name), train=128, epochs=4, batch_size=16, name="small-cnn").run()
    same = [torch.equal(a, b) for a, b in zip(network.parameters(), exact.parameters(), strict=True)]
    assert not all(same), "bf16 rounds"


def test_a_checkpoint_holds_everything_that_goes_on(tmp_path):
    whole = trainer(tmp_path / "whole", train=128, epochs=2, encoder="bernoulli")
    expected, history, _ = whole.run()
    first = trainer(tmp_path / "cut", train=128, epochs=2, encoder="bernoulli")
    setting = replace(first._job.setting, deadline=-1.0)
    first._job = replace(first._job, setting=setting)
    with pytest.raises(loop.OutOfTime):
        first.run()
    torch.manual_seed(99)
    second = trainer(tmp_path / "cut", train=128, epochs=2, encoder="bernoulli")
    network, other, _ = second.run()
    assert other == history
    assert all(torch.equal(network.state_dict()[k], v) for k, v in expected.state_dict().items())
    state = load_checkpoint(first._path, first._job.fingerprint)
    assert state is not None and state["at"][:3] == [0, 2, 0]


def test_training_uses_no_test_image(tmp_path):
    at = trainer(tmp_path, train=64, epochs=1)
    data: Dataset = at._data
    data.test.images.zero_()
    data.test.labels.zero_()
    spoiled, _, _ = at.run()
    clean, _, _ = trainer(tmp_path / "clean", train=64, epochs=1).run()
    assert all(torch.equal(a, b) for a, b in zip(spoiled.parameters(), clean.parameters(), strict=True))


def test_calibration_takes_training_images_only():
    data = load("digits")
    batches = list(evaluate.calibration_batches(data, CPU, 250))
    assert [len(b) for b in batches] == [100, 100, 50]
    assert torch.equal(torch.cat(batches), intensities(data.train.images[:250], data.scale))
    assert sum(len(b) for b in evaluate.calibration_batches(limited(data, train=30), CPU)) == 30


def evaluated(name: str, **settings) -> tuple[EnergyReport, Network]:
    data = load("digits")
    torch.manual_seed(0)
    network = make("plain").build(Definition(name, (1, 8, 8), 10, 2, **settings)).eval()
    observed = observe(network, intensities(data.test.images[:1], data.scale))
    return evaluate.evaluate(observed, data.test, data, CPU, hardware_names()), network


@pytest.mark.parametrize(
    "settings, analog, events",
    [
        ({"encoder": "constant-current"}, "conv1", "conv2, fc3, fc4"),
        ({"encoder": "direct"}, "conv1", "conv2, fc3, fc4"),
        ({"encoder": "bernoulli"}, None, "conv1, conv2, fc3, fc4"),
        ({"encoder": "constant-current", "pool": "avg"}, "conv1", "conv2, fc3, fc4"),
    ],
    ids=str,
)
def test_the_record_says_how_layers_were_counted(settings, analog, events):
    report, _ = evaluated("small-cnn", **settings)
    notes = counting_notes(report.sites)
    assert all(note.endswith(".") for note in notes)
    about_analog = [n for n in notes if n.startswith("Analog input")]
    assert len(about_analog) == (analog is not None)
    if analog:
        assert f"computed: {analog}. " in about_analog[0] and "current reused" in about_analog[0]
    (about_events,) = [n for n in notes if n.startswith("Event input")]
    assert about_events.endswith(f": {events}.")
    assert any("Padding taps" in n for n in notes) and any("Batch norm" in n for n in notes)
    fields = energy_fields(report)
    assert fields["counting"] == notes and fields["uncounted"] == []
    kinds = {layer["name"]: layer["kind"] for layer in fields["layers"]}
    assert kinds == dict.fromkeys(events.split(", "), "events") | ({analog: "values"} if analog else {})


def test_the_record_adds_up():
    report, network = evaluated("mlp")
    fields = energy_fields(report)
    assert fields["samples"] == 360 and fields["neuron_updates"] == {"LIF": 2.0 * (256 + 256)}
    assert [n["count"] for n in fields["neurons"]] == [256, 256]
    for hardware, energy in fields["energy_pj"].items():
        layers = sum(layer["energy_pj"][hardware] for layer in fields["layers"])
        assert layers <= energy["value"] * (1 + 1e-12)
        if fields["hardware_notes"][hardware]["scope"] == "arithmetic only":
            assert layers == pytest.approx(energy["value"], rel=1e-12), "no memory, no neuron updates"
        assert fields["hardware_notes"][hardware]["source"]
    silent = sum(n["silent_fraction"] * n["count"] for n in fields["neurons"]) / 512
    assert fields["silent_fraction"] == pytest.approx(silent)
    with torch.no_grad():
        data = load("digits")
        right = network(intensities(data.test.images, data.scale)).argmax(1) == data.test.labels
    assert fields["accuracy"] == float(right.double().mean())


def test_evaluation_restores_the_mode_and_does_not_depend_on_its_batches(monkeypatch):
    report, network = evaluated("small-cnn", pool="avg")
    data = load("digits")
    observed = observe(network.train(), intensities(data.test.images[:1], data.scale))
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", 77)
    other = evaluate.evaluate(observed, data.test, data, CPU, [])
    assert network.training
    assert torch.equal(other.counts.sums, report.counts.sums) and other.accuracy == report.accuracy


@pytest.fixture
def dying(monkeypatch):
    """Validation finds these accuracies, and a silent layer where the mark says so."""
    real = loop.evaluate

    def script(accuracies, silent):
        left = iter(zip(accuracies, silent, strict=True))

        def scripted(*given):
            accuracy, dead = next(left)
            report = real(*given)
            first, *others = report.health
            first = first._replace(silent_fraction=1.0 if dead else 0.5)
            others = [h._replace(silent_fraction=0.5) for h in others]
            return replace(report, accuracy=accuracy, health=(first, *others))

        monkeypatch.setattr(loop, "evaluate", scripted)

    return script


@pytest.mark.parametrize(
    "accuracies, silent, ran, chosen",
    [
        ([0.5, 0.8, 0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1, 1, 0, 0], 5, 2),  # stops after three silent epochs
        ([0.5, 0.8, 0.1, 0.1, 0.7, 0.1, 0.6], [0, 0, 1, 1, 0, 0, 0], 7, 7),  # it recovers
        ([0.8, 0.795, 0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1, 1, 0, 0], 5, 2),  # the later one, nearly as good
        ([0.8, 0.7, 0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1, 1, 0, 0], 5, 1),
        ([0.8, 0.7, 0.7, 0.6, 0.1, 0.1], [0, 0, 0, 0, 1, 1], 6, 1),  # silent in the whole window: from before
        ([0.1, 0.1, 0.1, 0.1, 0.2], [1, 1, 1, 1, 1], 5, 5),  # it was never alive, and may wake
    ],
)
def test_a_run_whose_layer_falls_silent_stops_and_keeps_the_best_before(
    tmp_path, dying, capsys, accuracies, silent, ran, chosen
):
    dying(accuracies, silent)
    at = trainer(tmp_path, make("total-spikes"), train=32, epochs=len(accuracies), batch_size=32)
    _, history, _ = at.run()
    assert len(history) == ran
    assert [bool(row.get("collapsed")) for row in history] == [bool(s) for s in silent[:ran]]
    assert [row["epoch"] for row in history if row.get("selected")] == [chosen]
    falls = [f"fell silent in epoch {i + 1}" for i in range(1, ran) if silent[i] and not silent[i - 1]]
    expected = falls if not all(silent) else ["silent from the first epoch to the last"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(expected) and all(what in line for what, line in zip(expected, said, strict=True))


def test_the_record_of_an_epoch_names_the_silent_share_of_every_layer(tmp_path):
    _, history, _ = trainer(tmp_path, train=64, epochs=1).run()
    assert 0 <= history[0]["silent_lif1"] <= 1 and 0 <= history[0]["silent_lif2"] <= 1
