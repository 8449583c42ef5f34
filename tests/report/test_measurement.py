"""A measurement as text, Markdown, CSV and page: from the record alone, whatever it lacks."""

import csv
import io
import json
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import nn

from picojoule.energy import measure
from picojoule.experiment.record import energy_fields
from picojoule.kinds import Events
from picojoule.report import (
    measurement_csv,
    measurement_markdown,
    measurement_text,
    read_records,
    text_table,
    write_measurement,
    write_page,
)
from picojoule.report.measurement import measurement_blocks
from picojoule.report.measurement_figures import measurement_figures
from picojoule.report.page import page_text
from picojoule.report.units import format_energy

LISTS = ("horowitz-45nm-fp32", "horowitz-45nm-fp32-sram", "loihi", "lemaire-2022-fit")
EVIL = "<script>alert('x')</script>|`*"


class Threshold(nn.Module):
    def forward(self, x):
        return (x > 0.3).float()


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Of a small spiking network on made-up samples."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), Threshold(), nn.Flatten(), nn.Linear(4 * 36, 10))
    batches = [(torch.rand(20, 1, 8, 8), torch.randint(10, (20,)))]
    report = measure(net, batches, LISTS, conventions=("neurobench", "syops"))
    known = {
        **{"made_by": "measure", "method": "own model", "network": "net.py:make", "dataset": "noise", "seed": 0},
        **{"model": "net.py:make", "hardware": LISTS[0], "split": "test", "split_note": "None.", "device": "cpu"},
        **{"commit": "0123456789", "machine": "a machine", "wall_s": 1.0, "cite": ["A paper"]},
    }
    return json.loads(json.dumps(known | energy_fields(report)))


def changed(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(record)) | changes


def test_every_layer_and_price_list_is_named_in_every_form(record):
    forms = [measurement_text(record), measurement_markdown(record), page_text([record])]
    for form in forms:
        for words in (*LISTS, "Conv2d", "Linear", "syops-counter 0.0.5", "Neuron health", "horowitz"):
            assert words in form, words
        for baseline in record["baselines"].values():
            assert baseline["title"] in form


def test_text_tables_add_up(record):
    """The rows of layers, and what belongs to none, make the total."""
    block = next(b for b in measurement_blocks(changed(record, hardware="loihi")) if b.key == "layers")
    (energy,) = [c for c in block.columns if c.heading.startswith("energy")]
    names = block.columns[0].cells
    assert names == ["0", "3", "(no layer)", "all"]
    parts = [float(cell.replace(",", "")) for cell in energy.cells]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], rel=0.01) and parts[2] > 0
    (acs,) = [c for c in block.columns if c.heading == "ACs"]
    assert acs.cells[2] == "" and acs.cells[-1] == f"{record['acs']:,.0f}"


def test_an_energy_that_leaves_operations_out_says_so(record):
    table = measurement_text(record).partition("\nEnergy\n")[2].partition(" is spent on")[0]
    rows = {row.split()[0]: row for row in table.splitlines()[:-1] if row.strip().startswith(LISTS)}
    assert rows["loihi"].endswith("; without the MACs") and record["unpriced"]["loihi"]
    assert rows["horowitz-45nm-fp32"].endswith("arithmetic only")
    low, high = (format_energy(record["energy_pj"]["horowitz-45nm-fp32-sram"][b]) for b in ("low", "high"))
    assert f"{low} – {high}" in rows["horowitz-45nm-fp32-sram"]
    narrow = changed(record)
    narrow["energy_pj"]["loihi"] = {"value": 1000.0, "low": 999.9, "high": 1000.1}
    assert "within 0.02 %" in measurement_text(narrow)


def test_who_wins_is_said_plainly(record):
    text = measurement_text(record)
    for baseline in record["baselines"].values():
        row = next(line for line in text.splitlines() if line.strip().startswith(baseline["title"]))
        verdict = row.split("×")[1].split()[0]
        assert verdict == ("wins" if baseline["ratio"] < 1 else "loses")
    assert "  loses  no rate wins" in text, "against the int8 ANN this network never wins"
    markdown = measurement_markdown(record)
    assert all(f"{c['sentence'][1:]}." in markdown for c in record["crossover"].values())


def test_a_network_without_spikes_has_no_rate(record):
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    report = measure(net, [torch.rand(4, 6)])
    text = measurement_text(changed(record, **energy_fields(report)))
    assert "Accuracy not known; neuron updates: none." in text and "rate [%]" not in text.split("Neuron health")[0]
    assert "events per neuron and step" not in text
    page_text([changed(record, **json.loads(json.dumps(energy_fields(report))))])


def test_events_of_different_sizes_are_told_apart():
    report = measure(nn.Sequential(nn.Linear(4, 3)), [torch.full((2, 4), 2.0)], inputs=Events(most=2))
    record = {"hardware": "horowitz-45nm-fp32", "method": "own model", "network": "n", "model": "m", "dataset": "d"}
    text = measurement_text(record | {"split": "test"} | energy_fields(report))
    row = next(line for line in text.splitlines() if line.strip().startswith("all"))
    assert row.split()[1:3] == ["24", "12"] and "of them graded" in text


def test_depth_and_hybrid_stand_beside_the_steps(record):
    deep = changed(record, sequential_depth=24, hybrid=True)
    for form in (measurement_text(deep), measurement_markdown(deep), page_text([deep])):
        assert "T = 1, depth = 24 (steps x passes), hybrid; all" in " ".join(form.split())
        assert "real values enter trained layers beside the spiking ones" in " ".join(form.split())
    row = next(csv.DictReader(io.StringIO(measurement_csv(deep))))
    assert (row["timesteps"], row["sequential_depth"], row["hybrid"]) == ("1", "24", "True")
    plain = measurement_text(changed(record, sequential_depth=1))
    assert "T = 1; all" in " ".join(plain.split()) and "ybrid" not in plain


def test_csv_has_a_row_per_layer_and_plain_numbers(record):
    rows = list(csv.DictReader(io.StringIO(measurement_csv(record))))
    assert [row["name"] for row in rows] == [layer["name"] for layer in record["layers"]]
    for row, layer in zip(rows, record["layers"], strict=True):
        assert float(row["acs"]) == layer["acs"] and float(row["dense_macs"]) == layer["dense_macs"]
        assert float(row["operations_p95"]) == layer["operations_percentiles"]["p95"]
        assert all(float(row[f"energy_pj {name}"]) == layer["energy_pj"][name] for name in LISTS)
        assert (row["timesteps"], row["sequential_depth"], row["hybrid"]) == ("1", "", "False")
    comma = changed(record)
    comma["layers"][0]["name"] = 'a, "b"'
    assert next(csv.DictReader(io.StringIO(measurement_csv(comma))))["name"] == 'a, "b"'


def test_markdown_tables_have_equal_rows(record):
    evil = changed(record, model=EVIL)
    evil["layers"][0]["name"] = EVIL
    evil["uncounted"] = [EVIL]
    markdown = measurement_markdown(evil)
    assert "<script>" not in markdown
    columns = None
    for line in markdown.splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        own = line.replace("\\\\", "").replace("\\|", "").count("|")
        assert columns in (None, own), line
        columns = own


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str | None] = set()
        self.scripts = 0
        self.loads: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for name, value in attrs if name == "id"}
        self.scripts += tag == "script"
        self.loads += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_draws_every_figure_and_loads_nothing(record):
    page = _Page(page_text([record]))
    figures = measurement_figures(record)
    assert set(figures) == {"energy", "baselines", "neurons"}
    drawn = {f"measured-0-{block}-{n}" for block, found in figures.items() for n in range(len(found))}
    assert drawn <= page.ids and len(drawn) >= 6 and page.loads == []
    assert "pareto" not in page.ids, "one measurement is no comparison"


def test_figures_hold_the_numbers(record):
    figures = measurement_figures(record)
    energies = figures["energy"][0][1]["data"]
    assert len(energies) == len(LISTS)
    by_name = {trace["y"][0]: trace for trace in energies}
    own = record["energy_pj"]["horowitz-45nm-fp32-sram"]
    trace = by_name["horowitz-45nm-fp32-sram"]
    assert trace["error_x"]["arrayminus"][0] / trace["x"][0] == pytest.approx(1 - own["low"] / own["value"])
    tornado = next(f for c, f in figures["energy"] if "constant of horowitz-45nm-fp32-sram" in c)
    (bar, value) = tornado["data"]
    swing = record["sensitivity"]["horowitz-45nm-fp32-sram"][0]
    assert bar["x"][0] / value["x"][0] == pytest.approx((swing["high_pj"] - swing["low_pj"]) / own["value"])
    histogram = figures["neurons"][0][1]["data"][0]
    assert sum(histogram["y"]) == pytest.approx(100)
    parts = next(f for c, f in figures["energy"] if c.startswith("What the energy"))
    shares = [sum(t["x"][t["y"].index("loihi")] for t in parts["data"])]
    assert shares == [pytest.approx(100)]


def test_what_a_page_says_is_escaped(record):
    evil = changed(record, model=EVIL, network=EVIL)
    evil["layers"][0]["name"] = evil["neurons"][0]["name"] = EVIL
    evil["counting"] = evil["uncounted"] = evil["cite"] = [EVIL]
    assert _Page(page_text([evil])).scripts == _Page(page_text([record])).scripts
    assert "<script>alert" not in page_text([evil])


def test_several_measurements_are_compared_too(record, tmp_path):
    other = changed(record, model="other.py:make", network="other", accuracy=0.5)
    write_page([record, other], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    ids = _Page(page).ids
    assert {"pareto", "table", "measured-0-energy-0", "measured-1-energy-0"} <= ids
    assert page.count("How it was counted") == 1 and "other.py:make" in page


def test_the_files_say_the_same_when_read_back(record, tmp_path):
    write_measurement(record, tmp_path / "m")
    (again,) = read_records(tmp_path / "m" / "record.json")
    assert list(again["baselines"]) == list(record["baselines"]), "in the order they are shown"
    assert (tmp_path / "m" / "measurement.md").read_text() == measurement_markdown(again)
    assert (tmp_path / "m" / "measurement.csv").read_text() == measurement_csv(again)
    assert (tmp_path / "m" / "report.html").read_text() == page_text([again])
    assert "own model" in text_table([again])


def test_only_a_sensor_makes_joules_measured(record):
    power = {
        **{"wall_s_per_sample": 0.002, "joules_per_sample": None, "source": "", "idle_w": None, "wall_s": 5.0},
        **{"note": "joules are not available: no RAPL", "samples": 20, "repeats": 3, "calibration": {}},
    }
    without = measurement_text(changed(record, power=power))
    assert "2 ms per sample by wall-clock" in without and "Joules: not measured, no RAPL." in without
    assert "nothing was measured on a chip" in page_text([changed(record, power=power)])
    found = {"estimated_pj": 1.0, "measured_pj": 2.0, "error": -0.5}
    power |= {"joules_per_sample": 2e-12, "source": "RAPL package-0", "idle_w": 4.0, "note": "whole device"}
    sensed = changed(record, power=power | {"calibration": {"loihi": found}})
    text = measurement_text(sensed)
    assert "2.00 pJ per sample measured by RAPL package-0" in text
    assert "Calibration: loihi estimates 1.00 pJ, -50 % against" in text
    assert "stated apart" in page_text([sensed]) and "nothing was measured" not in page_text([sensed])


def test_an_old_record_without_the_new_fields_is_shown(record):
    kept = ("accuracy", "acs", "acs_sd", "macs", "dense_macs", "graded_events", "timesteps", "samples", "energy_pj")
    known = ("made_by", "method", "network", "dataset", "model", "hardware", "split", "layers", "device")
    old = {key: record[key] for key in (*kept, *known)}
    for shown in (measurement_text(old), measurement_markdown(old), page_text([old])):
        assert "horowitz-45nm-fp32" in shown
