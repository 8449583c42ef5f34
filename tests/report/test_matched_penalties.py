"""Penalties at equal accuracy, against values worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from penalty_records import record, rows, table

from picojoule.errors import BadInput
from picojoule.report import penalty_table, update_tables
from picojoule.report.matched import place_at

PLAIN: dict[str, Any] = {"validation": 0.92, "test": 0.90, "acs": 1600.0}  # 100 * 0.5 * 2 + 40 * 0.25 * 2 = 120 spikes
CHEAP: dict[str, Any] = {"validation": 0.90, "test": 0.89, "acs": 400.0, "rates": (0.125, 0.0625)}  # 30 spikes


def pair(seed: int = 0, method: str = "synaptic-penalty", **changes: Any) -> list[dict[str, Any]]:
    """A plain run and one strength that loses two points of validation accuracy for a quarter of the SynOps."""
    return [record("plain", seed=seed, **PLAIN), record(method, 1.0, seed=seed, **{**CHEAP, **changes})]


def test_halfway_in_accuracy_is_the_geometric_mean_of_synops() -> None:
    found = table(penalty_table(pair(), "matched"))
    assert found["synaptic-penalty"] == {
        "method": "synaptic-penalty",
        "seeds": "1",
        "SynOps, per sample": "800",
        "of plain [%]": "50.0",
        "test points lost": "0.50",
        "spikes, per sample": "60",
        "of plain's spikes [%]": "50.0",
    }
    assert found["plain"]["SynOps, per sample"] == "1,600"
    assert found["plain"]["spikes, per sample"] == "120"


@pytest.mark.parametrize(("part", "share"), [("matched-0", 0.0), ("matched-0.5", 0.25), ("matched-1.5", 0.75)])
def test_the_points_are_the_number_after_the_dash(part: str, share: float) -> None:
    text = penalty_table(pair(), part)
    found = table(text)["synaptic-penalty"]
    assert found["SynOps, per sample"] == f"{1600 * 0.25**share:,.0f}"
    assert found["test points lost"] == f"{share:.2f}"
    assert f"is {part.partition('-')[2]} points under" in text


def test_the_last_fall_counts_where_accuracy_rises_in_between() -> None:
    runs = [
        record("plain", **PLAIN),
        record("synaptic-penalty", 1.0, validation=0.90, acs=800.0),
        record("synaptic-penalty", 2.0, validation=0.915, acs=400.0, test=0.9),
        record("synaptic-penalty", 4.0, validation=0.895, acs=25.0, test=0.86),
    ]
    found = place_at(runs, 0.91)
    assert found.synops == pytest.approx(400 * (25 / 400) ** 0.25)
    assert found.accuracy == pytest.approx(0.89)
    assert place_at(runs, 0.90).synops == pytest.approx(50.0), "0.90 is met at strength 1 too"


def test_strengths_are_in_order_whatever_the_file_says() -> None:
    weak = record("synaptic-penalty", 0.5, validation=0.915, acs=1600.0)
    runs = [record("synaptic-penalty", 10.0, validation=0.895, acs=100.0), weak, record("plain", **PLAIN)]
    assert table(penalty_table(runs, "matched"))["synaptic-penalty"]["SynOps, per sample"] == "800"


def test_exactly_at_the_point_is_within() -> None:
    runs = [record("plain", validation=0.93), record("synaptic-penalty", 1.0, validation=0.92, acs=300.0)]
    assert place_at(runs, 0.93 - 0.01).reason == "not reached"
    beyond = record("synaptic-penalty", 3.0, validation=0.6, acs=3.0)
    assert place_at([*runs, beyond], 0.93 - 0.01).synops == pytest.approx(300.0)


def test_what_cannot_be_interpolated_is_said() -> None:
    weak = record("synaptic-penalty", 1.0, validation=0.915, acs=900.0)
    dead = record("synaptic-penalty", 9.0, validation=0.1, acs=500.0, silent=(0.2, 1.0))
    off = record("synaptic-penalty", 9.0, validation=0.1, acs=0.0, silent=(0.2, 0.9))
    assert place_at([weak], 0.91).reason == "not reached"
    assert place_at([dead], 0.91).reason == "starts below"
    assert place_at([weak, dead], 0.91).reason == place_at([weak, off], 0.91).reason == "collapses"
    assert math.isnan(place_at([weak, dead], 0.91).synops)
    text = penalty_table([record("plain", **PLAIN), weak, dead], "matched")
    found = table(text)["synaptic-penalty"]
    assert (found["seeds"], found["SynOps, per sample"], found["spikes, per sample"]) == ("0 of 1", "collapses", "")
    assert "Collapses: the first strength beyond" in text and "Starts below" not in text


def test_seeds_that_were_not_reached_stand_beside_the_mean() -> None:
    runs = [*pair(0), *pair(1, acs=100.0), *pair(2, validation=0.918)]
    found = table(penalty_table(runs, "matched"))["synaptic-penalty"]
    assert found["seeds"] == "2 of 3"
    assert found["SynOps, per sample"] == "600 ± 283 (not reached in 1)"
    assert found["of plain [%]"] == "37.5"


def test_a_seed_without_plain_is_left_out() -> None:
    runs = [*pair(0), record("synaptic-penalty", 1.0, seed=1, **CHEAP)]
    assert table(penalty_table(runs, "matched"))["synaptic-penalty"]["seeds"] == "1 of 2"
    alone = [record("plain", seed=5, **PLAIN), record("synaptic-penalty", 1.0, seed=1, **CHEAP)]
    assert table(penalty_table(alone, "matched"))["synaptic-penalty"]["SynOps, per sample"] == "no plain"


def test_each_seed_is_held_against_its_own_plain() -> None:
    other = [
        record("plain", seed=1, validation=0.90, acs=800.0),
        record("synaptic-penalty", 1.0, seed=1, validation=0.88, acs=200.0),
    ]
    found = table(penalty_table([*pair(0), *other], "matched"))["synaptic-penalty"]
    assert found["SynOps, per sample"] == "600 ± 283", "800 of seed 0, 400 of seed 1"
    assert found["of plain [%]"] == "50.0"


def signs(total: list[float]) -> tuple[str, str]:
    """Signs of total-spikes with these SynOps by seed, against 400 of the synaptic penalty."""
    runs = [run for seed in range(len(total)) for run in pair(seed)]
    runs += [
        record("total-spikes", 1.0, seed=seed, **{**CHEAP, "acs": acs, "rates": (0.1, 0.0625)})
        for seed, acs in enumerate(total)
    ]
    heading, *body = rows(penalty_table(runs, "matched"))
    assert heading[-2:] == ["SynOps, against synaptic-penalty", "spikes, against synaptic-penalty"]
    (row,) = [row for row in body if row[0] == "total-spikes"]
    return row[-2], row[-1]


def test_paired_signs_by_seed() -> None:
    assert signs([500.0, 401.0, 399.0]) == ("more in 2 of 3", "fewer in 3 of 3")
    assert signs([500.0, 400.0, 600.0]) == ("more in 2 of 3, equal in 1", "fewer in 3 of 3")
    assert signs([400.0]) == ("equal in 1 of 1", "fewer in 1 of 1")


def test_signs_are_against_the_same_surrogate() -> None:
    runs = pair() + pair(method="total-spikes", acs=900.0)[1:]
    arctan: dict[str, Any] = {"options": {"surrogate": "arctan"}}
    runs += [
        record("plain", **PLAIN, **arctan),
        record("synaptic-penalty", 1.0, **CHEAP, **arctan),
        record("total-spikes", 1.0, **{**CHEAP, "acs": 100.0}, **arctan),
        record("synaptic-penalty", 1.0, **CHEAP, options={"p": 2}),
    ]
    found = table(penalty_table(runs, "matched"))
    sign = "SynOps, against synaptic-penalty"
    assert found["total-spikes"][sign] == "more in 1 of 1"
    assert found["total-spikes surrogate=arctan"][sign] == "fewer in 1 of 1"
    assert found["synaptic-penalty p=2"][sign] == "equal in 1 of 1"
    assert found["synaptic-penalty"][sign] == found["plain"][sign] == ""


def test_plain_is_strength_zero_of_the_same_network_only() -> None:
    longer = record("total-spikes", 1.0, **{**CHEAP, "validation": 0.905}, timesteps=8)
    cells = table(penalty_table([*pair(), longer], "matched"))
    assert cells["total-spikes"]["SynOps, per sample"] == "starts below"
    zero = record("synaptic-penalty", 0.0, **{**PLAIN, "acs": 6400.0})
    own = table(penalty_table([*pair(), zero], "matched"))
    assert own["synaptic-penalty"]["SynOps, per sample"] == "1,600", "its own strength 0 takes the place of plain"


def test_targets_are_swept_from_the_loosest_and_do_not_start_at_plain() -> None:
    loose = record("synops-target", 1.0, validation=0.915, acs=1600.0, options={"target": 0.5})
    tight = record("synops-target", 1.0, validation=0.895, acs=100.0, options={"target": 0.1})
    plain = record("plain", **PLAIN)
    found = table(penalty_table([tight, plain, loose], "matched"))["synops-target"]
    assert (found["SynOps, per sample"], found["test points lost"]) == ("800", "2.00")
    below = table(penalty_table([tight, plain, {**loose, "validation_accuracy": 0.905}], "matched"))
    assert below["synops-target"]["SynOps, per sample"] == "starts below"


def test_no_plain_no_strength_no_validation_is_refused() -> None:
    with pytest.raises(BadInput, match="expected records of plain"):
        penalty_table(pair()[1:], "matched")
    with pytest.raises(BadInput, match="expected records of a penalty"):
        penalty_table(pair()[:1], "matched")
    with pytest.raises(BadInput, match="validation_accuracy"):
        penalty_table(pair(validation=None), "matched")
    with pytest.raises(BadInput, match="spiking"):
        penalty_table([record("ann")], "matched")


@pytest.mark.parametrize("part", ["lif", "matched-", "matched--1", "matched-x", "layers-2"])
def test_another_part_is_refused(part: str) -> None:
    with pytest.raises(BadInput, match=f"layers or sweep, got '{part}'"):
        penalty_table(pair(), part)


def test_runs_without_neurons_have_no_spikes() -> None:
    heading, *_ = rows(penalty_table([{**run, "neurons": []} for run in pair()], "matched"))
    assert heading == ["method", "seeds", "SynOps, per sample", "of plain [%]", "test points lost"]


def test_markers_name_the_part(tmp_path: Path) -> None:
    (tmp_path / "sweep.jsonl").write_text("".join(json.dumps(run) + "\n" for run in pair()))
    page = tmp_path / "page.md"
    parts = ("matched", "matched-0.5", "layers", "sweep")
    page.write_text("".join(f"<!-- table: sweep.jsonl#{part} -->\n<!-- end table -->\n" for part in parts))
    assert update_tables(page, tmp_path)
    assert all(penalty_table(pair(), part) in page.read_text() for part in parts)
    assert not update_tables(page, tmp_path)
