"""The page is one file, escapes what records say, and asks nothing of a network."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from picojoule.report import read_records, write_page

MADE_UP = Path(__file__).with_name("made_up.jsonl")
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects what a page would load, its scripts and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.ids: dict[str | None, str] = {}
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.ids |= {value: tag for name, value in attrs if name == "id"}

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


def written(records: list[dict[str, Any]], folder: Path) -> str:
    write_page(records, folder / "out" / "report.html")
    assert [file.name for file in (folder / "out").iterdir()] == ["report.html"]
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_page_is_self_contained(tmp_path: Path) -> None:
    text = written(read_records(MADE_UP), tmp_path)
    page = Page(text)
    assert page.loads == []
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert page.ids["pareto"] == "div" and page.ids["table"] == "table"
    assert "default-src 'none'" in text
    assert text.count("* plotly.js v") == 1
    own = "".join(part for part in text.split("<script>") if "* plotly.js v" not in part)
    assert "http:" not in own and "https:" not in own and "@import" not in own and "url(" not in own


def test_page_says_how_it_was_counted(tmp_path: Path) -> None:
    text = written(read_records(MADE_UP), tmp_path)
    for words in (
        "synaptic-penalty uses 9.7 times less energy than the dense ANN",
        "arithmetic only",
        "4.6 pJ per MAC, 0.9 pJ per AC",
        "Batch norm: folded",
        "max over classes (argmax)",
        "abc1234",
        "arXiv 2302.01500",
    ):
        assert words in text


def test_text_of_records_is_escaped(tmp_path: Path) -> None:
    records = read_records(MADE_UP)
    for record in records[:3]:
        record |= {"method": EVIL, "commit": EVIL, "cite": [EVIL], "counting": [EVIL], "machine": EVIL}
        record["layers"][0]["name"] = EVIL
        record["neurons"] = [{"name": EVIL, "silent_fraction": 0.5}]
    text = written(records, tmp_path)
    assert EVIL not in text and "<script>alert" not in text
    page = Page(text)
    assert page.tags.count("script") == 3
    figures = json.loads(page.scripts[0])
    assert any(
        trace.get("name") == "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" for trace in figures["pareto"]["data"]
    )


def test_least_records_make_a_page(tmp_path: Path) -> None:
    least = {key: read_records(MADE_UP)[0][key] for key in ("method", "network", "dataset", "accuracy", "energy_pj")}
    none = least | dict.fromkeys(("seed", "layers", "neurons", "cite", "counting", "hardware_notes", "config"))
    page = Page(written([least, none, least | {"dataset": "digits"}], tmp_path))
    assert "layers" not in page.ids and "silent" not in page.ids and "pareto" in page.ids


def test_a_failed_page_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail(*paths: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_page(read_records(MADE_UP), target)
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_importing_the_report_does_not_import_plotly() -> None:
    code = "import sys, picojoule.report; print(sorted({'plotly', 'jinja2', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "plotly" not in done.stdout
