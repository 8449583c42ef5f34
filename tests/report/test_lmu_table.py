import json

from picojoule.report.table import update_tables

FACTS = {"benchmark": "lmu", "rounds": 3, "threads": 1, "commit": "abc", "machine": "m", "torch": "t", "peak_mib": 12.0}


def _line(case: str, name: str, seconds: float, faster: float, target: float | None = None) -> dict[str, object]:
    return {**FACTS, "case": case, "implementation": name, "cpu_s": seconds, "faster": faster, "target": target}


def test_a_row_per_implementation(tmp_path):
    records = [_line("step", "loop", 0.9, 1.0, 1.5), _line("step", "chunks", 0.6, 1.5, 1.5), _line("all", "fft", 2, 1)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    page = tmp_path / "page.md"
    page.write_text("<!-- table: x.jsonl -->\n<!-- end table -->\n")
    assert update_tables(page, tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines() if "|" in line]
    assert rows[2:] == [
        ["step", "loop", "900", "1.00", "1.50", "12.0"],
        ["", "chunks", "600", "1.50", "", "12.0"],
        ["all", "fft", "2,000", "1.00", "", "12.0"],
    ]
    assert "rounds 3; threads 1; commit abc" in page.read_text()
