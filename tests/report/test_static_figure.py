"""The SVG of a sweep."""

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from penalty_records import record

from picojoule.cli.report import report
from picojoule.errors import BadInput
from picojoule.report import write_figure

SWEEP = [
    *(record("plain", seed=seed, acs=1600.0 + seed) for seed in range(3)),
    *(
        record("synaptic-penalty", strength, seed=seed, acs=800 / strength + seed, test=0.9 - strength / 100)
        for strength in (0.3, 1.0, 3.0)
        for seed in range(3)
    ),
    *(record("synaptic-penalty", strength, acs=900 / strength, options={"p": 2}) for strength in (0.3, 3.0)),
]


def drawn(tmp_path: Path, records: list[dict[str, Any]], against: str = "synops") -> str:
    file = tmp_path / "figure.svg"
    write_figure(records, file, against)
    return file.read_text(encoding="utf-8")


def words(svg: str) -> list[str]:
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def test_a_line_per_variant_and_plain_marked(tmp_path: Path) -> None:
    svg = drawn(tmp_path, SWEEP)
    said = words(svg)
    assert said[-3:] == ["plain", "synaptic-penalty", "synaptic-penalty p=2"]
    assert "SynOps (accumulates) per sample" in said and "mlp on digits" in said
    assert {"500", "1,000"} <= set(said), "powers and their parts as numbers"
    assert len(svg) < 40_000


def test_the_same_records_give_the_same_file(tmp_path: Path) -> None:
    svg = drawn(tmp_path, SWEEP)
    assert svg == drawn(tmp_path, SWEEP)
    assert svg != drawn(tmp_path, SWEEP[:-1])
    assert not re.search(r"<dc:date>|20\d\d-\d\d", svg)


@pytest.mark.parametrize(("against", "title"), [("spikes", "spikes per sample"), ("energy", "energy per sample [pJ]")])
def test_other_quantities(tmp_path: Path, against: str, title: str) -> None:
    assert any(text.startswith(title) for text in words(drawn(tmp_path, SWEEP, against)))


def test_a_silent_network_is_left_out_and_said(tmp_path: Path) -> None:
    silent = record("synaptic-penalty", 10.0, acs=0.0)
    assert "SynOps (accumulates) per sample (1 without any left out)" in words(drawn(tmp_path, [*SWEEP, silent]))
    with pytest.raises(BadInput, match="above 0"):
        drawn(tmp_path, [silent])


def test_a_panel_per_network(tmp_path: Path) -> None:
    said = words(drawn(tmp_path, [*SWEEP, record("plain") | {"network": "cnn7"}]))
    assert {"cnn7 on digits", "mlp on digits"} <= set(said)


def test_names_are_text_and_not_formulas(tmp_path: Path) -> None:
    assert "a<$x^2$>&" in words(drawn(tmp_path, [record("a<$x^2$>&", 1.0)]))


def test_bad_figures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"ends in \.svg"):
        write_figure(SWEEP, tmp_path / "a.png")
    with pytest.raises(BadInput, match="unknown quantity 'watts'"):
        drawn(tmp_path, SWEEP, "watts")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match=re.escape("pip install 'picojoule[plot]'")):
        drawn(tmp_path, SWEEP)
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps(run) + "\n" for run in SWEEP))
    report(records, figure=tmp_path / "new" / "a.svg", against="spikes")
    assert capsys.readouterr().out == f"figure:  {tmp_path / 'new' / 'a.svg'}\n"
    assert "spikes per sample" in (tmp_path / "new" / "a.svg").read_text()
    assert not (tmp_path / "report.html").exists()
