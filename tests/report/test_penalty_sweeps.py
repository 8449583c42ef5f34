"""Sweeps of strengths, in total and layer by layer."""

from typing import Any

import pytest
from penalty_records import record, rows, table

from picojoule.report import penalty_table


def history(*silent: bool, accuracy: float = 0.1) -> list[dict[str, Any]]:
    """Epochs, with a silent layer or without."""
    return [
        {"epoch": n, "validation_accuracy": accuracy, **({"collapsed": 1.0} if dead else {})}
        for n, dead in enumerate(silent, start=1)
    ]


def layers(*runs: dict[str, Any]) -> dict[str, str]:
    (row,) = table(penalty_table(list(runs), "layers")).values()
    return row


def test_sweep_is_compact() -> None:
    runs = [
        record("plain", acs=1000.0, test=0.9),
        record("plain", seed=1, acs=3000.0, test=0.92),
        record("synaptic-penalty", 0.3, acs=500.0, silent=(0.5, 0.0)),
        record("synaptic-penalty", 0.3, seed=1, acs=600.0, silent=(0.1, 0.0)),
    ]
    heading, plain, penalised = rows(penalty_table(runs, "sweep"))
    assert heading == [
        "method",
        "strength",
        "seeds",
        "accuracy [%]",
        "SynOps, per sample",
        "of plain [%]",
        "spikes, per sample",
        "silent [%], of neurons",
    ]
    assert plain == ["plain", "", "2", "91.00 ± 1.41", "2,000 ± 1,414", "100.0", "120 ± 0", "0.0"]
    assert penalised == ["synaptic-penalty", "0.3", "2", "88.00 ± 0.00", "550 ± 71", "35.0", "120 ± 0", "15.0"]


def test_sweep_without_plain_has_no_shares() -> None:
    heading, row = rows(penalty_table([record("total-spikes", 3.0)], "sweep"))
    assert "of plain [%]" not in heading and row[:3] == ["total-spikes", "3", "1"]


def test_a_swept_target_stands_for_the_strength() -> None:
    runs = [record("synops-conversion", 1.0, options={"target": target}) for target in (0.01, 0.1)]
    _, *body = rows(penalty_table(runs, "sweep"))
    assert [row[:2] for row in body] == [["synops-conversion", "target 0.1"], ["synops-conversion", "target 0.01"]]


def test_dense_anns_are_no_rows() -> None:
    assert list(table(penalty_table([record("ann"), record("ann-sparse"), record("plain")], "sweep"))) == ["plain"]


def test_layers_show_spikes_per_neuron_and_the_worst_silent_share() -> None:
    found = layers(
        record("first-spike", 1.0, rates=(0.5, 1.0), silent=(0.01, 0.3)),
        record("first-spike", 1.0, seed=1, rates=(0.4, 1.5), silent=(0.02, 0.1)),
    )
    assert found["T, steps"] == "2"
    assert found["spikes per neuron, by layer"] == "0.90 / 2.50", "rate times steps, mean of the seeds"
    assert layers(record("a", 1.0, rates=(0.02, 0.0)))["spikes per neuron, by layer"] == "0.040 / 0.000"
    assert found["silent [%], worst layer"] == "30.0"


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        ((False, False, False), "no"),
        ((False, True, True), "from epoch 2"),
        ((True, True, True), "from epoch 1"),
        ((True, True, False), "until epoch 2"),
        ((True, False, True), "from epoch 3"),
    ],
)
def test_when_a_layer_was_silent(epochs: tuple[bool, ...], said: str) -> None:
    assert layers(record("first-spike", 1.0, history=history(*epochs)))["collapsed"] == said


def test_a_run_that_stopped_early_says_so() -> None:
    stopped = record("first-spike", 1.0, test=0.7, history=history(False, True, True, True), config={"epochs": 30})
    found = layers(stopped)
    assert found["epochs"] == "4 of 30"
    assert (found["accuracy [%]"], found["validation [%], last epoch"]) == ("70.00", "10.00")
    whole = record("first-spike", 1.0, seed=3, history=history(*[False] * 30, accuracy=0.8), config={"epochs": 30})
    both = layers(stopped, whole)
    assert both["collapsed"] == "seed 0: from epoch 2"
    assert both["epochs"] == "4 of 30, 30"
    assert both["validation [%], last epoch"] == "45.00 ± 49.50"


def test_conversions_have_no_history() -> None:
    converted = record("ecc")
    converted["history"] = []
    cells = table(penalty_table([converted, record("plain")], "layers"))["ecc"]
    assert cells["collapsed"] == cells["epochs"] == cells["validation [%], last epoch"] == ""


def test_several_datasets_and_networks_have_columns() -> None:
    runs = [record("plain"), record("plain") | {"dataset": "cifar10", "network": "vgg11"}]
    heading, *body = rows(penalty_table(runs, "sweep"))
    assert heading[:3] == ["dataset", "network", "method"]
    assert [row[:2] for row in body] == [["cifar10", "vgg11"], ["digits", "mlp"]]


def test_names_from_records_do_not_break_the_table() -> None:
    runs = [record("a|b<i>", 1.0, options={"p": "x|y"}), record("a|b<i>", 1.0)]
    text = penalty_table(runs, "layers")
    assert "| a\\|b&lt;i> p=x\\|y | 1 |" in text and "<i>" not in text


def test_provenance_stands_below() -> None:
    last = penalty_table([record("plain", commit="abc1234", split="test", samples=360)], "sweep").splitlines()[-1]
    assert last.endswith("Dataset digits; network mlp; split test (360 samples); seeds 0; commit abc1234.")
