"""Grouping over seeds, comparison with the dense ANN, Pareto-optimal rows and the result in words."""

from typing import Any

import pytest

from picojoule.errors import BadInput
from picojoule.report.headline import headlines
from picojoule.report.summary import pareto_rows, summarise

FP32, INT8 = "horowitz-45nm-fp32", "horowitz-45nm-int8"


def record(method: str, accuracy: float, energy: float, **more: Any) -> dict[str, Any]:
    hardware = more.get("hardware", FP32)
    prices = {hardware: {"value": energy, "low": energy / 2, "high": energy * 2}}
    own = {"method": method, "network": "mlp", "dataset": "digits", "accuracy": accuracy, "energy_pj": prices}
    return own | more


def test_seeds_become_one_row() -> None:
    records = [record("plain", a, e, seed=s, acs=e) for s, (a, e) in enumerate([(0.8, 1.0), (0.9, 3.0)])]
    (row,) = summarise(records)
    assert row.seeds == 2
    assert row.accuracy == pytest.approx(0.85)
    assert row.accuracy_sd == pytest.approx(0.0707, abs=1e-4)
    assert (row.energy_pj, row.energy_low_pj, row.energy_high_pj) == pytest.approx((2, 1, 4))
    assert row.acs == pytest.approx(2)
    assert (row.ratio, row.memory_pj, row.silent_fraction) == (None, None, None)


def test_a_repeated_seed_counts_once_as_it_came_out_last() -> None:
    (row,) = summarise([record("plain", 0.5, 1.0, seed=0), record("plain", 0.9, 1.0, seed=0)])
    assert (row.seeds, row.accuracy, row.accuracy_sd) == (1, 0.9, None)


def test_settings_separate_rows_and_name_them() -> None:
    records = [
        record("plain", 0.9, 1.0, strength=0.1, config={"seed": 0, "loop": {"epochs": 5}, "out": "a"}),
        record("plain", 0.9, 2.0, strength=0.1, config={"seed": 1, "loop": {"epochs": 9}, "out": "b"}),
        record("plain", 0.9, 3.0, strength=2.0, config={"seed": 2, "loop": {"epochs": 9}}),
        record("plain", 0.9, 3.0, strength=2.0, config={"seed": 3, "loop": {"epochs": 9}, "parent": "a/b"}),
        record("ann", 0.9, 9.0, config={"seed": 3}),
    ]
    rows = summarise(records)
    assert [row.label for row in rows] == [
        "ann",
        "plain, strength=2, loop.epochs=9",
        "plain, strength=0.1, loop.epochs=9",
        "plain, strength=0.1, loop.epochs=5",
    ]
    assert rows[1].variant == "loop.epochs=9"


def test_a_name_leaves_out_dataset_and_network() -> None:
    rows = summarise([record("plain", 0.9, 1.0, strength=s, dataset=d) for s in (1.0, 2.0) for d in "ab"])
    assert [(row.label, row.name) for row in rows][:2] == [
        ("plain, a, strength=1", "plain, strength=1"),
        ("plain, a, strength=2", "plain, strength=2"),
    ]


def test_ratio_is_to_the_dense_ann_of_the_same_dataset_and_network() -> None:
    records = [
        record("ann", 0.9, 100.0),
        record("plain", 0.9, 20.0),
        record("ann", 0.9, 1000.0, network="cnn"),
        record("plain", 0.9, 20.0, network="cnn"),
        record("plain", 0.9, 20.0, dataset="mnist"),
    ]
    ratios = {(row.dataset, row.network): row.ratio for row in summarise(records) if row.method == "plain"}
    assert ratios[("digits", "mlp")] == pytest.approx(0.2)
    assert ratios[("digits", "cnn")] == pytest.approx(0.02)
    assert ratios[("mnist", "mlp")] is None


def test_memory_energy_extends_the_rows_own_price_list() -> None:
    prices = {name: {"value": value} for name, value in ((FP32, 9.0), (f"{FP32}-sram", 30.0), (INT8, 1.0))}
    fp32, int8 = summarise(
        [
            record("ann", 0.9, 0.0, hardware=FP32, energy_pj=prices),
            record("ann-int8", 0.9, 0.0, hardware=INT8, energy_pj=prices),
        ]
    )
    assert (fp32.energy_pj, fp32.memory_pj) == (9.0, 30.0)
    assert (int8.energy_pj, int8.memory_pj) == (1.0, None)


def test_macs_are_dense_unless_zeros_are_skipped() -> None:
    macs = {"macs": 4.0, "dense_macs": 10.0}
    rows = summarise([record("ann", 0.9, 2.0, **macs), record("ann-sparse", 0.9, 1.0, **macs)])
    assert [row.macs for row in rows] == [10.0, 4.0]


def test_pareto_rows_are_those_that_none_beats() -> None:
    records = [
        record("ann", 0.95, 100.0),
        record("plain", 0.90, 50.0),
        record("ecc", 0.94, 50.0),
        record("synaptic-penalty", 0.80, 10.0),
        record("other", 0.80, 10.0),
        record("plain", 0.10, 500.0, dataset="another"),
    ]
    found = {(row.dataset, row.method) for row in pareto_rows(summarise(records))}
    assert found == {
        ("digits", "ann"),
        ("digits", "ecc"),
        ("digits", "synaptic-penalty"),
        ("digits", "other"),
        ("another", "plain"),
    }


def test_headline_prefers_the_cheapest_row_within_one_point() -> None:
    records = [record("ann", 0.95, 5e6), record("ecc", 0.944, 5e5), record("plain", 0.7, 1e3)]
    (text,) = headlines(summarise(records))
    assert "ecc uses 10.0 times less energy than the dense ANN" in text
    assert "500 nJ against 5.00 µJ per sample" in text
    assert "0.6 points less accurate (94.4% against 95.0%, one seed)" in text


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([record("ann", 0.95, 9.0), record("plain", 0.7, 3.0)], "No spiking run stays within one point"),
        ([record("ann", 0.95, 9.0), record("plain", 0.95, 18.0)], "2.0 times more energy than the dense ANN"),
        ([record("ann", 0.95, 9.0), record("plain", 0.96, 9.0)], "about the same energy"),
        ([record("ann", 0.95, 9.0), record("plain", 0.96, 0.0)], "0.00 pJ against 9.00 pJ"),
        ([record("ann", 0.95, 9.0), record("ann-sparse", 0.95, 3.0)], "there is no spiking run"),
        ([record("plain", 0.95, 9.0)], "there is no run of the dense ANN"),
    ],
)
def test_headline_states_the_awkward_cases(records: list[dict[str, Any]], words: str) -> None:
    (text,) = headlines(summarise(records))
    assert words in text


def test_no_records_are_refused() -> None:
    with pytest.raises(BadInput, match="at least one record"):
        summarise([])
