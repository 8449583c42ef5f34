"""Tables for the terminal and for Markdown files."""

from pathlib import Path
from typing import Any

import pytest

from picojoule.errors import BadInput
from picojoule.report import markdown_table, read_records, text_table, update_tables

MADE_UP = Path(__file__).with_name("made_up.jsonl")
LEAST: dict[str, Any] = {
    "method": "pl|ain",
    "network": "mlp",
    "dataset": "digits",
    "accuracy": 0.5,
    "energy_pj": {"horowitz-45nm-fp32": {"value": 12345.0}},
}


def test_text_table_is_aligned_and_labelled() -> None:
    lines = text_table(read_records(MADE_UP)).splitlines()
    assert lines[0].startswith("method ") and "accuracy [%]" in lines[0] and "energy [nJ]" in lines[0]
    assert "arithmetic only" in lines[1] and "with memory" in lines[1]
    end = lines[0].index("energy [nJ]") + len("energy [nJ]")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[2:8])
    assert sum("*" in line for line in lines[2:8]) == 2
    assert "91.85 ± 0.06" in lines[2] and "5,163" in lines[2]
    footer = "\n".join(lines[9:])
    assert "seeds 0, 1, 2; commit abc1234" in footer and "Energy per sample, arithmetic only" in footer
    assert lines[-1] == read_records(MADE_UP)[0]["split_note"], "the split stands beside the accuracy"


def test_markdown_table_has_one_line_per_row_and_a_footer() -> None:
    lines = markdown_table(read_records(MADE_UP)).splitlines()
    assert len({line.count("|") for line in lines[:8]}) == 1
    assert lines[8] == ""
    assert "Dataset fashion-mnist; network small-cnn; split test (10,000 samples)" in lines[9]


def test_records_without_optional_keys_give_a_short_table() -> None:
    lines = markdown_table([LEAST]).splitlines()
    assert lines[0] == "| method | seeds | accuracy [%], ± sd of seeds | energy [nJ], arithmetic only |"
    assert lines[2] == "| pl\\|ain \\* | 1 | 50.00 | 12.3 |"
    assert "12.3" in text_table([LEAST])


def test_update_tables_writes_once(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.jsonl").write_text(MADE_UP.read_text())
    page = tmp_path / "README.md"
    page.write_text("# Title\n\n<!-- table: results/a.jsonl -->\nold\n<!-- end table -->\n\nend\n")
    assert update_tables(page, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n<!-- table: results/a.jsonl -->\n\n| method |")
    assert text.endswith("\n\n<!-- end table -->\n\nend\n") and "old" not in text
    assert not update_tables(page, tmp_path)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["README.md", "results"]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- table: a.jsonl -->\n",
        "<!-- table: a.jsonl -->\n<!-- table: a.jsonl -->\n<!-- end table -->\n",
    ],
)
def test_open_markers_are_refused(tmp_path: Path, text: str) -> None:
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(BadInput, match="end table"):
        update_tables(page, tmp_path)
    assert page.read_text() == text


def test_missing_records_of_a_table_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- table: gone.jsonl -->\n<!-- end table -->\n")
    with pytest.raises(BadInput, match="gone.jsonl"):
        update_tables(page, tmp_path)
