"""Tables of single methods: what neurons learned, bits of events, and what training in one step costs."""

import json
from pathlib import Path
from typing import Any

import pytest
from penalty_records import ENERGY, record, rows

from picojoule.errors import BadInput
from picojoule.report import update_tables


def page_of(records: list[dict[str, Any]], folder: Path, part: str = "") -> str:
    """The table that a page gets of these records."""
    (folder / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    page = folder / "page.md"
    page.write_text(f"<!-- table: x.jsonl{part} -->\n<!-- end table -->\n")
    assert update_tables(page, folder)
    return page.read_text()


def learned(threshold: float) -> dict[str, Any]:
    return {"lif1": {"start": {"threshold": 0.5}, "end": {"threshold": threshold}}}


def test_a_row_for_every_learned_value_with_its_seeds(tmp_path):
    runs = [record("one-step", seed=seed, test=0.9, learned=learned(0.4 + 0.2 * seed)) for seed in (0, 1)]
    heading, *body = rows(page_of([*runs, record("plain", learned={}), record("ann")], tmp_path, "#learned"))
    assert heading == ["run", "seeds", "accuracy [%]", "population", "learned", "start", "end"]
    assert body == [["one-step", "2", "90.00 ± 0.00", "lif1", "threshold", "0.500 ± 0.000", "0.500 ± 0.141"]]
    with pytest.raises(BadInput, match="that learned thresholds, decays, a fineness or a theta, got none"):
        page_of([record("plain")], tmp_path, "#learned")


def test_bits_of_events_beside_accuracy(tmp_path):
    bits = {"activity_bits": 3.0, "significant_bits": 1.5, "nonzero_fraction": 0.8}
    runs = [
        record("hybrid", seed=seed, test=0.9, bits=bits | {"activity_bits": 3.0 + seed}, shift_adds=300.0, acs=400.0)
        | {"dense_acs": 200.0}
        for seed in (0, 1)
    ]
    heading, *body = rows(page_of([*runs, record("ann")], tmp_path, "#bits"))
    assert heading[-6:-3] == [
        "bits, per activity", "significant bits, per activity", "significant bits, per multiplication",
    ]  # fmt: skip
    filled = ["3.50 ± 0.71", "1.50 ± 0.00", "1.50 ± 0.00", "80.0 ± 0.0", "300 ± 0", "400 ± 0"]
    assert {row[0]: row[-6:] for row in body} == {"ann": [""] * 6, "hybrid": filled}
    with pytest.raises(BadInput, match="expected records of runs whose events have bits, such as those of hybrid"):
        page_of([record("ann")], tmp_path, "#bits")


def test_the_cost_of_training_beside_four_steps(tmp_path):
    facts = dict(benchmark="one-step-cost", network="vgg11", batches=50, batch_size=128, precision="bf16", rounds=3)
    facts |= dict(threads=1, load=0.1, commit="abc", machine="m", torch="t")
    four = {**facts, "implementation": "T = 4", "seconds": 40.0, "cpu_s": 39.0, "peak_mib": 800.0}
    one = {**facts, "implementation": "T = 1", "seconds": 10.0, "cpu_s": 9.75, "peak_mib": 200.0}
    text = page_of([four | {"faster": 1.0, "of_memory": 1.0}, one | {"faster": 4.0, "of_memory": 0.25}], tmp_path)
    assert ["vgg11", "T = 1", "10.0", "9.75", "4.00", "200", "25"] in rows(text)
    assert "precision bf16; rounds 3; threads 1; load 0.1; commit abc" in text


def test_two_readings_of_energy_each_with_its_name(tmp_path):
    dense = {"dense-ann": {"energy_pj": {"value": 4600.0}, "macs": 1000.0}}
    mixer = {"network": "mixer", "timesteps": 1, "sequential_depth": 12, "acs": 500.0, "dense_macs": 200.0}
    runs = [
        record("one-step", test=0.8, baselines=dense, **mixer) | {"energy_pj": {ENERGY: {"value": 1370.0}}},
        record("ann", test=0.85, network="mixer", timesteps=1) | {"energy_pj": {ENERGY: {"value": 4600.0}}},
        record("ann", test=0.9, network="vgg16", timesteps=1) | {"energy_pj": {ENERGY: {"value": 13700.0}}},
        record("plain", test=0.7, network="vgg11", timesteps=4) | {"energy_pj": {ENERGY: {"value": 2740.0}}},
    ]
    heading, *body = rows(page_of(runs, tmp_path, "#readings"))
    named = [dict(zip(heading, line, strict=True)) for line in body]
    found = {
        r["against"]: (r["reading"], r["accuracy [%], of that"], r["times the energy"], r["at most"]) for r in named
    }
    assert found == {
        "mixer as an ANN": ("same synapses", "85.00", "3.36", "5.00"),
        "vgg16, ann": ("another network", "90.00", "10.00", ""),
        "vgg11, plain, T = 4": ("another network", "70.00", "2.00", ""),
    }
    assert {r["depth, steps x passes"] for r in named} == {"12"}
    with pytest.raises(BadInput, match="spiking networks with their baselines"):
        page_of([record("ann")], tmp_path, "#readings")
