"""Tables of recorded speed."""

import json
from pathlib import Path
from typing import Any

import pytest

from picojoule.errors import BadInput
from picojoule.report import update_tables
from picojoule.report.speed import speed_table


def seconds(median: float) -> dict[str, Any]:
    return {"median": median, "min": median / 2, "all": [median / 2, median, 2 * median]}


def record(implementation: str, milliseconds: float, **changes: Any) -> dict[str, Any]:
    return {
        "benchmark": "speed",
        "case": "lif",
        "setting": "n=8",
        "about": "T=3, batch 2, n=8",
        "per": "step",
        "reference": "Peer",
        "implementation": implementation,
        "package": implementation.lower(),
        "package_version": "1.2",
        "rounds": 7,
        "forward_s": seconds(milliseconds / 4e3),
        "backward_s": seconds(3 * milliseconds / 4e3),
        "sum_s": seconds(milliseconds / 1e3),
        "faster": 40 / milliseconds,
        "floor_s": 2e-3,
        "of_floor": milliseconds / 2,
        "peak_mib": 3.0,
        "peak_reused_mib": 5.0,
        "peak_ratio": 0.5,
        "agreement": 1.0,
        "targets": [],
        "ceilings": {"cached_copy": 5e10, "uncached_copy": 2e10, "fp32": 4e11, "bf16": 9e11},
        "threads": 2,
        "page_reuse": True,
        "kernels": "avx2",
        "load": 0.25,
        "commit": "abc123",
        "machine": "box",
        "torch": "2.13.0",
        **changes,
    }


MET = {"target": "at least 4x faster than Peer", "limit": 4.0, "value": 16.0, "met": True}
MISSED = {"target": "at most 1.1x the floor", "limit": 1.1, "value": 1.25, "met": False}
OURS = record("Ours", 2.5, targets=[MET, MISSED])
PEER = record("Peer", 40.0, rounds=3, agreement=0.9987)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_a_row_per_implementation() -> None:
    heading, rule, ours, peer = rows(speed_table([OURS, PEER], "lif"))
    assert heading == [
        "implementation",
        "forward [ms]",
        "backward [ms]",
        "sum [ms]",
        "times as fast as Peer",
        "times the floor",
        "peak memory [MiB]",
        "with page reuse [MiB]",
        "same spikes [%]",
        "rounds",
    ]
    assert rule == [":--", *["--:"] * 9]
    assert ours == ["Ours (ours 1.2)", "0.62", "1.88", "2.50", "16.00", "1.25", "3.00", "5.00", "100.00", "7"]
    assert peer == ["Peer (peer 1.2)", "10.0", "30.0", "40.0", "1.00", "20.00", "3.00", "5.00", "99.87", "3"]


def test_targets_floor_and_provenance_stand_below() -> None:
    text = speed_table([OURS, PEER], "lif")
    assert text.startswith("**n=8**: T=3, batch 2, n=8. Times are per step.\n\n|")
    assert "- Ours: at least 4x faster than Peer: 16.00x, met\n" in text
    assert "- Ours: at most 1.1x the floor: 1.25x, **missed**\n" in text
    assert "- floor: 2.00 ms, from copies at 50.0 GB/s in the last cache level, 20.0 GB/s beyond it" in text
    assert "400 GFLOP/s in fp32, 900 GFLOP/s in bf16" in text
    last = text.splitlines()[-1]
    assert "threads 2; kernels avx2; commit abc123; machine box" in last
    assert "page reuse on; load 0.25 to 0.25" in last


def test_what_a_case_does_not_have_takes_no_column() -> None:
    bare = {"backward_s": None, "floor_s": None, "of_floor": None, "agreement": None, "ceilings": None}
    text = speed_table([record("Peer", 40.0, **bare)], "lif")
    heading = rows(text)[0]
    assert heading[:4] == ["implementation", "sum [ms]", "times as fast as Peer", "peak memory [MiB]"]
    assert heading[4:] == ["with page reuse [MiB]", "rounds"]
    assert "floor" not in text


def test_settings_are_apart_and_other_cases_away() -> None:
    large = record("Ours", 2.5, setting="n=16")
    other = record("Ours", 2.5, case="conv", about="convolutions")
    text = speed_table([OURS, large, other], "lif")
    assert text.index("**n=8**") < text.index("**n=16**")
    assert "convolutions" not in text
    assert len(rows(text)) == 2 * 3


def test_long_times_are_in_seconds() -> None:
    heading, _, fast, slow = rows(speed_table([record("Ours", 1500.0), record("Peer", 20_000.0)], "lif"))
    assert heading[3] == "sum [s]" and fast[3] == "1.50" and slow[3] == "20.0"


def test_the_unit_is_that_of_the_fastest() -> None:
    heading, _, fast, slow = rows(speed_table([record("Ours", 900.0), record("Peer", 20_000.0)], "lif"))
    assert heading[3] == "sum [ms]" and fast[3] == "900" and slow[3] == "20,000"


def test_all_targets_in_one_table() -> None:
    other = record("Ours", 2.5, case="conv", targets=[MET])
    table = rows(speed_table([OURS, PEER, other], "targets"))
    assert table[0] == ["case", "implementation", "target", "found", "met"]
    assert table[2:] == [
        ["lif, n=8", "Ours", "at least 4x faster than Peer", "16.00x", "yes"],
        ["lif, n=8", "Ours", "at most 1.1x the floor", "1.25x", "**no**"],
        ["conv, n=8", "Ours", "at least 4x faster than Peer", "16.00x", "yes"],
    ]


def test_pipes_do_not_break_a_row() -> None:
    assert "| a\\|b (a\\|b 1.2) |" in speed_table([record("a|b", 40.0)], "lif")


def test_markers_name_the_case(tmp_path: Path) -> None:
    (tmp_path / "speed.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (OURS, PEER)))
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table: speed.jsonl#{p} -->\n<!-- end table -->\n" for p in ("lif", "targets", "x")))
    assert update_tables(page, tmp_path)
    text = page.read_text()
    assert speed_table([OURS, PEER], "lif") in text and speed_table([OURS, PEER], "targets") in text
    assert text.count("Not recorded yet.") == 1
    assert not update_tables(page, tmp_path)


def test_nothing_recorded_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table: speed.jsonl#lif -->\n<!-- end table -->\n")
    assert update_tables(page, tmp_path)
    assert "\nNot recorded yet.\n" in page.read_text()


@pytest.mark.parametrize("content", ["no json\n", '{"benchmark": "other"}\n{"run": 1}\n'])
def test_records_of_something_else_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "speed.jsonl").write_text(content)
    page = tmp_path / "page.md"
    page.write_text("<!-- table: speed.jsonl#lif -->\n<!-- end table -->\n")
    with pytest.raises(BadInput, match="speed.jsonl"):
        update_tables(page, tmp_path)
