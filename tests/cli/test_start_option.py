"""Training from the weights of a saved model."""

import json
from pathlib import Path

import pytest
import torch

from picojoule.exchange import load as load_model

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


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(command, tmp_path, plain):
    for network, start, said in (
        ("mlp", plain[1], "do not fit"),
        ("small-cnn", plain[1].replace("{seed}", "7"), "no model file"),
    ):
        answer = command("train", "plain", *FEW, "--network", network, "--start", start, "--out", tmp_path / "x")
        assert answer.code != 0 and said in answer.err and len(answer.err.splitlines()) == 1
        assert not (tmp_path / "x").exists()
