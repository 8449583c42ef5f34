"""Runs that stop on their own: the time limit, and a loss that is no number."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from picojoule.cli import main
from picojoule.experiment import loop
from picojoule.experiment.checkpoint import load_checkpoint
from picojoule.methods import METHODS
from picojoule.methods.plain import Plain

SMALL = ("--network", "mlp", "--epochs", "2", "--limit-train", "100", "--batch-size", "32", "--json", "--out")


@pytest.fixture
def command(capsys):
    """Runs the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        torch.use_deterministic_algorithms(False)
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


def model_of(out: Path, name: str) -> bytes:
    return (out / "runs" / name / "model.safetensors").read_bytes()


def test_a_time_limit_stops_cleanly_and_resume_goes_on_to_the_same_weights(command, tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    train = ("train", "plain", "--encoder", "bernoulli", "--timesteps", "2", *SMALL)
    assert command(*train, whole)[0] == 0
    stops = 0
    while True:
        code, out, err = command(*train, pieces, "--max-minutes", "0", "--resume")
        assert code == 0
        printed = json.loads(out)
        if "stopped" not in printed:
            break
        assert printed == {"dataset": "digits", "records": [], "report": None, "stopped": True}
        assert err.count("\n") == 1 and f"--resume --out {pieces}" in err
        assert not (pieces / "records.jsonl").exists()
        stops += 1
    assert stops == 8, "two epochs of four steps, one step per piece"
    assert model_of(pieces, "plain_seed-0") == model_of(whole, "plain_seed-0")
    (record,), (expected,) = printed["records"], json.loads((whole / "records.jsonl").read_text().join("[]"))
    for key in ("accuracy", "acs", "history", "layers"):
        assert record[key] == expected[key]


def test_a_table_keeps_what_is_finished_when_time_is_over(command, tmp_path):
    compare = ("compare", "--methods", "plain,ann", *SMALL, tmp_path)
    stopped = []
    for _ in range(20):
        code, out, _ = command(*compare, "--max-minutes", "0", "--resume")
        assert code == 0
        printed = json.loads(out)
        if "stopped" not in printed:
            break
        stopped.append([r["method"] for r in printed["records"]])
    assert stopped == [[]] * 8 + [["plain"]] * 8
    assert [r["method"] for r in printed["records"]] == ["plain", "ann"]


def test_no_time_limit_is_reached_when_there_is_time(command, tmp_path):
    _, out, err = command("train", "plain", *SMALL, tmp_path, "--max-minutes", "60")
    assert "stopped" not in json.loads(out) and err == ""


def test_a_rate_that_is_far_too_high_is_a_failed_run(command, tmp_path):
    code, out, err = command("train", "ann", *SMALL, tmp_path, "--lr", "1e20")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1 and err.startswith("picojoule: the loss became ")
    assert "in epoch 1, step " in err and "try a lower --lr" in err and "nothing was kept yet" in err
    assert not list(tmp_path.rglob("*.*")), "no record, no model, no report"


@dataclass(frozen=True)
class Derailing(Plain):
    """Goes wrong in the second epoch, while `healthy` is False."""

    healthy: ClassVar[bool] = False

    def loss(self, output, target, activity, progress):
        terms = super().loss(output, target, activity, progress)
        factor = float("nan") if progress.epoch == 1 and not self.healthy else 1.0
        return {name: term * factor for name, term in terms.items()}


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(command, tmp_path, monkeypatch, value):
    monkeypatch.setitem(METHODS, "plain", Derailing)
    if value == "inf":
        monkeypatch.setattr(
            Derailing, "loss", lambda self, o, t, a, p: {"task": torch.tensor(float("inf")) if p.epoch else o.mean()}
        )
    code, out, err = command("train", "plain", *SMALL, tmp_path)
    path = tmp_path / "runs" / "plain_seed-0" / "checkpoint.pt"
    assert (code, out) == (1, "")
    assert err == (
        f"picojoule: the loss became {value} in epoch 2, step 1; the last good checkpoint is kept at {path}; "
        "try a lower --lr or --strength\n"
    )
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["checkpoint.pt"]
    state = torch.load(path, weights_only=True)
    kept = load_checkpoint(path, state["fingerprint"])
    assert kept is not None and kept["at"][:3] == [0, 1, 0]
    assert all(torch.isfinite(t).all() for t in kept["model"].values())


def test_weights_that_are_no_numbers_are_never_kept(command, tmp_path, monkeypatch):
    def finite_loss_with_a_gradient_of_nan(self, output, target, activity, progress):
        return {"task": (output.sum() * (0.0 if progress.epoch else 1.0)).abs().sqrt()}

    monkeypatch.setattr(Plain, "loss", finite_loss_with_a_gradient_of_nan)
    arguments = [a if a != "32" else "100" for a in SMALL]  # one step per epoch: its loss says nothing is wrong
    code, out, err = command("train", "plain", *arguments, tmp_path)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "the weights are no numbers after epoch 2" in err and "the last good checkpoint is kept at" in err
    state = torch.load(tmp_path / "runs" / "plain_seed-0" / "checkpoint.pt", weights_only=True)
    assert state["at"][:3] == [0, 1, 0] and all(torch.isfinite(t).all() for t in state["model"].values())


def test_a_mended_run_goes_on_from_the_last_good_checkpoint(command, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "plain", Derailing)
    assert command("train", "plain", *SMALL, tmp_path / "mended")[0] == 1
    monkeypatch.setattr(Derailing, "healthy", True)
    assert command("train", "plain", *SMALL, tmp_path / "mended", "--resume")[0] == 0
    assert command("train", "plain", *SMALL, tmp_path / "whole")[0] == 0
    assert model_of(tmp_path / "mended", "plain_seed-0") == model_of(tmp_path / "whole", "plain_seed-0")


def test_an_interrupted_run_says_that_it_can_go_on(command, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "load_checkpoint", interrupted)
    code, out, err = command("train", "plain", *SMALL, tmp_path)
    assert (code, out) == (130, "") and err == "picojoule: interrupted; what was finished is kept, --resume goes on\n"
