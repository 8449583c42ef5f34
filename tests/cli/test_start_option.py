"""Training from the weights of a saved model."""

import json
from pathlib import Path

import pytest
import torch

from picojoule.exchange import load as load_model
from picojoule.neurons.learned import learned_values

FEW = ("--data", "digits", "--epochs", "1", "--limit-train", "64", "--precision", "fp32", "--json")


def records(answer):
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["records"]


@pytest.fixture(scope="module")
def plain(command, tmp_path_factory):
    """Two plain runs, and where their model files are."""
    out = tmp_path_factory.mktemp("plain")
    made = records(command("train", "plain", *FEW, "--seeds", "0,1", "--out", out))
    return made, str(out / "runs" / "plain_seed-{seed}" / "model.safetensors")


def test_each_seed_starts_from_its_own_file(command, tmp_path, plain):
    first, start = plain
    made = records(
        command("train", "total-spikes", *FEW, "--lr", "1e-20", "--seeds", "0,1", "--start", start, "--out", tmp_path)
    )
    for before, after in zip(first, made, strict=True):
        assert after["config"]["start"] == start
        assert after["started_from"]["notes"]["method"] == "plain"
        assert after["started_from"]["notes"]["seed"] == after["seed"] == before["seed"]
        old, new = (load_model(r["model"]).state_dict() for r in (before, after))
        for key in old:
            if "running" not in key and "num_batches" not in key:  # statistics go on; this rate moves no weight
                torch.testing.assert_close(new[key], old[key], rtol=0, atol=1e-12)
    assert made[0]["started_from"]["digest"] != made[1]["started_from"]["digest"]
    assert first[0]["started_from"] is None


def test_another_file_is_another_run(command, tmp_path, plain):
    first, start = plain
    arguments = ("train", "plain", *FEW, "--out", tmp_path, "--start", tmp_path / "w.safetensors")
    models = [Path(start.replace("{seed}", seed)) for seed in "01"]
    (tmp_path / "w.safetensors").write_bytes(models[0].read_bytes())
    records(command(*arguments))
    assert records(command(*arguments, "--resume"))
    (tmp_path / "w.safetensors").write_bytes(models[1].read_bytes())
    answer = command(*arguments, "--resume")
    assert answer.code != 0 and "another run" in answer.err


SEQUENCES = ("--data", "digits-sequence", "--network", "lmu-5x4", *FEW[2:])


@pytest.fixture(scope="module")
def float_lmu(command, tmp_path_factory):
    """The model file of a float LMU over the whole sequence."""
    return records(command("train", "ann", *SEQUENCES, "--out", tmp_path_factory.mktemp("lmu")))[0]["model"]


def test_what_is_learned_from_here_on_starts_at_what_was_asked(command, tmp_path, float_lmu):
    wanted = ("--option.fineness", "2", "--option.learn_fineness", "1", "--learn-theta", "--lr", "1e-20")
    made = records(command("train", "hybrid", *SEQUENCES, "--start", float_lmu, *wanted, "--out", tmp_path))[0]
    learned = {name: values["start"] for name, values in made["learned"].items()}
    assert learned == {
        "lmu1.memory": {"theta": pytest.approx(64)},
        **{f"lmu1.spike_{signal}": {"fineness": pytest.approx(2)} for signal in "hum"},
    }
    old, new = (load_model(path).state_dict() for path in (float_lmu, made["model"]))
    assert old.keys() < new.keys()
    for key in old:
        torch.testing.assert_close(new[key], old[key], rtol=0, atol=1e-12)


def test_a_start_with_another_window_is_refused(command, tmp_path, float_lmu):
    for learned in ((), ("--learn-theta",)):
        more = ("--theta", "30", *learned, "--start", float_lmu, "--out", tmp_path / "x")
        answer = command("train", "ann", *SEQUENCES, *more)
        assert answer.code == 2 and "theta = 30 steps under zoh, got those of another window" in answer.err
        assert len(answer.err.splitlines()) == 1 and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("ecc",), "choose the method ann or hybrid"),
        (("ann-int8",), "choose the method ann, ann-sparse or hybrid"),
        (("hybrid", "--network", "lstm-5", "--option.signals", "u"), "expected signals h for lstm-5, whose cells have"),
        (("hybrid", "--network", "gru-5", "--option.signals", "hu", "--option.schedule", "none"), "expected signals h"),
        (("ann", "--network", "lmu-5x8", "--low-rank"), "16 times a power of two, got 8, for low_rank (--low-rank)"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(command, tmp_path, arguments, says):
    method, *rest = arguments
    settings = [*SEQUENCES[:2], *(() if "--network" in rest else SEQUENCES[2:4]), *SEQUENCES[4:], *rest]
    answer = command("train", method, *settings, "--out", tmp_path / "x")
    assert answer.code == 2 and says in answer.err and len(answer.err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_a_window_that_gets_short_in_training_can_be_opened_again(command, tmp_path):
    asked = ("--learn-theta", "--theta", "1", "--lr", "0.3", "--clip", "1", "--out", tmp_path)
    made = records(command("train", "ann", *SEQUENCES, *asked))[0]
    assert made["learned"]["lmu1.memory"]["start"] == {"theta": 1.0}
    opened = load_model(made["model"])
    assert made["learned"]["lmu1.memory"]["end"]["theta"] >= 1
    assert learned_values(opened) == {"lmu1.memory": made["learned"]["lmu1.memory"]["end"]}


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(command, tmp_path, plain):
    for network, start, said in (
        ("mlp", plain[1], "do not fit"),
        ("small-cnn", plain[1].replace("{seed}", "7"), "no model file"),
    ):
        answer = command("train", "plain", *FEW, "--network", network, "--start", start, "--out", tmp_path / "x")
        assert answer.code != 0 and said in answer.err and len(answer.err.splitlines()) == 1
        assert not (tmp_path / "x").exists()
