"""Settings are checked at the door, and what decides a result names the run."""

import dataclasses
from pathlib import Path

import pytest
import torch

from picojoule.data import load
from picojoule.errors import BadInput
from picojoule.experiment.config import Training, checked_seed, parse_seeds, parse_strengths
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.selection import mark_chosen
from picojoule.experiment.table import common_pool, pick_device
from picojoule.methods import make

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "wrong, hint",
    [
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"network": "cnn"}, "did you mean 'cnn7'"),
        ({"encoder": "rate"}, "unknown encoder 'rate'"),
        ({"readout": "mean-"}, "did you mean 'mean'"),
        ({"precision": "bf-16"}, "did you mean 'bf16'"),
        ({"pool": "maximum"}, "unknown pooling 'maximum'"),
        ({"timesteps": 0}, "--timesteps of at least 1, got 0"),
        ({"epochs": -1}, "--epochs of at least 1, got -1"),
        ({"batch_size": 1}, "--batch-size of at least 2, got 1"),
        ({"limit_train": 0}, "--limit-train of at least 2, got 0"),
        ({"lr": 0.0}, "--lr above 0, got 0.0"),
        ({"lr": float("nan")}, "--lr above 0, got nan"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused(wrong, hint):
    with pytest.raises(BadInput, match=hint):
        Training(**wrong)
    with pytest.raises(BadInput, match=hint):
        dataclasses.replace(Training(), **wrong)


def test_open_settings_are_decided_by_the_dataset():
    digits, mnist = Training().decided(), Training(data="mnist").decided()
    assert (digits.epochs, digits.batch_size) == (60, 64) and (mnist.epochs, mnist.batch_size) == (10, 128)
    mine = Training(epochs=3, batch_size=5).decided()
    assert (mine.epochs, mine.batch_size) == (3, 5) and mine.decided() == mine


def test_json_leaves_out_where_it_ran():
    described = Training(data_dir=Path("somewhere"), device="cpu").as_json()
    assert described == Training().as_json()
    assert set(described) == {f.name for f in dataclasses.fields(Training)} - {"data_dir", "device"}


@pytest.mark.parametrize("text, strengths", [(None, ()), ("1", (1.0,)), ("0.5, 1,2e-3", (0.5, 1.0, 0.002))])
def test_strengths(text, strengths):
    assert parse_strengths(text) == strengths


@pytest.mark.parametrize("text, seeds", [("0", (0,)), ("2,0, 1", (2, 0, 1)), ("4294967295", (2**32 - 1,))])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds
    assert all(checked_seed(seed) == seed for seed in seeds)


@pytest.mark.parametrize("text", ["", "x", "1.0", "0,,1", "-1", "4294967296"])
def test_wrong_seeds(text):
    with pytest.raises(BadInput, match="expected"):
        parse_seeds(text)


def test_a_run_is_named_by_what_differs_from_the_defaults():
    setting = Setting(load("digits"), Training().decided(), "max", Path("a"), CPU)

    def run_name(method, seed):
        return Job(setting, method, seed).name

    assert run_name(make("plain"), 3) == "plain_seed-3"
    assert run_name(make("synaptic-penalty", 2.0, {"p": "2"}), 0) == "synaptic-penalty_strength-2.0_p-2_seed-0"
    assert run_name(make("synaptic-penalty", 1.0), 0) == "synaptic-penalty_seed-0"


def test_the_fingerprint_changes_with_everything_that_decides_the_result():
    base = Training().decided()
    data = load("digits")

    plain = make("plain")

    def name(training=base, method=plain, seed=0, pool="max", out="a"):
        return Job(Setting(data, training, pool, Path(out), CPU), method, seed).fingerprint

    same = [name(), name(out="b"), name(dataclasses.replace(base, page_reuse=True, device="cpu"))]
    assert len(set(same)) == 1
    others = [
        name(seed=1),
        name(pool="avg"),
        name(method=make("ann")),
        name(method=make("plain", None, {"decay": "0.25"})),
        *(
            name(dataclasses.replace(base, **change))
            for change in (
                {"lr": 0.1},
                {"epochs": 41},
                {"batch_size": 65},
                {"timesteps": 2},
                {"encoder": "direct"},
                {"readout": "spike-count"},
                {"precision": "bf16"},
                {"network": "mlp"},
                {"limit_train": 100},
                {"channels_last": False},
            )
        ),
    ]
    assert len({*same, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "names, asked, pool",
    [
        (["ann", "plain"], None, "max"),
        (["ann", "synops-conversion"], None, "avg"),
        (["plain"], "avg", "avg"),
        (["ann", "ecc"], None, "max"),
        (["ann", "synops-conversion"], "avg", "avg"),
        (["synaptic-penalty+first-spike"], None, "max"),
        (["first-spike"], "avg", "avg"),
    ],
)
def test_all_methods_of_a_table_share_a_pooling(names, asked, pool):
    assert common_pool([make(name) for name in names], Training(data="mnist", pool=asked)) == pool


def test_a_pooling_that_a_method_cannot_use_is_refused():
    with pytest.raises(BadInput, match="synops-conversion needs --pool avg, got --pool max"):
        common_pool([make("ann"), make("synops-conversion")], Training(pool="max"))
    with pytest.raises(BadInput, match=r"synaptic-penalty\+first-spike needs --pool max, got --pool avg"):
        common_pool([make("synaptic-penalty+first-spike")], Training(pool="avg"))


def test_poolings_that_exclude_each_other_are_refused():
    with pytest.raises(BadInput, match="share a pooling, but synops-conversion needs --pool avg and synaptic"):
        common_pool([make("synops-conversion"), make("synaptic-penalty+first-spike")], Training())


def test_digits_are_pooled_by_averages_unless_a_method_needs_the_largest():
    assert common_pool([make("plain")], Training()) == "avg"
    assert common_pool([make("plain"), make("synaptic-penalty+first-spike")], Training()) == "max"


def test_devices():
    assert pick_device("cpu") == CPU
    with pytest.raises(BadInput, match="cannot use --device warp"):
        pick_device("warp")


def sweep(method: str, strength: float | None, accuracy: float, acs: float) -> dict:
    return {"method": method, "strength": strength, "validation_accuracy": accuracy, "validation_acs": acs}


def test_the_strength_of_a_sweep_is_chosen_on_validation_data():
    records = [
        sweep("plain", None, 0.99, 1.0),
        sweep("a", 0.0, 0.980, 900.0),
        sweep("a", 1.0, 0.975, 500.0),
        sweep("a", 2.0, 0.971, 400.0),
        sweep("a", 4.0, 0.969, 100.0),  # cheapest, but more than a point below the best
        sweep("b", 1.0, 0.5, 100.0),  # no sweep
    ]
    mark_chosen(records)
    assert [r.get("chosen") for r in records] == [None, False, False, True, False, None]


def test_the_choice_is_by_means_over_seeds():
    records = [
        sweep("a", 1.0, 0.90, 100.0),
        sweep("a", 1.0, 0.98, 100.0),
        sweep("a", 2.0, 0.98, 10.0),
        sweep("a", 2.0, 0.80, 10.0),
    ]
    mark_chosen(records)
    assert [r["chosen"] for r in records] == [True, True, False, False]


def test_a_long_list_of_options_still_names_a_folder(tmp_path):
    layers = ",".join(f"block{n}.conv{m}=1.5" for n in range(1, 10) for m in (1, 2))
    names = set()
    for more in ("", ",fc2=2"):
        method = make("synaptic-penalty", None, {"layers": layers + more})
        job = Job(Setting(load("digits"), Training(), "max", tmp_path, CPU), method, 0)
        job.folder.mkdir(parents=True)
        names.add(job.name)
    assert len(names) == 2 and all(name.startswith("synaptic-penalty_") and len(name) < 200 for name in names)
