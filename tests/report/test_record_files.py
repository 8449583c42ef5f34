"""Bad record files are refused in one sentence that names the place."""

import json
import re
from pathlib import Path

import pytest

from picojoule.errors import BadInput
from picojoule.report import read_records

GOOD = {
    "method": "plain",
    "network": "mlp",
    "dataset": "digits",
    "accuracy": 0.9,
    "energy_pj": {"horowitz-45nm-fp32": {"value": 10.0, "low": 5.0, "high": 20.0}},
}


def refusal(file: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_records([file])
    return str(caught.value)


def test_reads_lines_lists_and_single_records(tmp_path: Path) -> None:
    lines, many, one = tmp_path / "a.jsonl", tmp_path / "b.json", tmp_path / "c.json"
    lines.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD)}\n")
    many.write_text(json.dumps([GOOD, GOOD, GOOD], indent=2))
    one.write_text(json.dumps(GOOD))
    assert read_records([lines, str(many), one]) == [GOOD] * 6
    assert read_records(one) == [GOOD]


@pytest.mark.parametrize("key", sorted(GOOD))
def test_missing_key_names_file_line_and_key(tmp_path: Path, key: str) -> None:
    file = tmp_path / "a.jsonl"
    bad = {name: value for name, value in GOOD.items() if name != key}
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(bad)}\n")
    assert re.search(rf"a\.jsonl, line 2: the record lacks {key}$", refusal(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"method": ', r"a\.jsonl, line 1: expected JSON, got an error at column 12"),
        ("\n[1, 2]", r"line 2: expected a record .* got list"),
        (json.dumps(GOOD | {"accuracy": 91.2}), "accuracy as a fraction from 0 to 1, got 91.2"),
        (json.dumps(GOOD | {"accuracy": True}), "accuracy as a fraction"),
        (json.dumps(GOOD | {"accuracy": float("nan")}), "lacks accuracy"),
        (json.dumps(GOOD | {"energy_pj": {}}), "expected energy_pj as"),
        (json.dumps(GOOD | {"energy_pj": {"h": 3}}), "expected energy_pj as"),
        ("", "no record found in"),
        ("\n \n", "no record found in"),
    ],
)
def test_bad_text_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    assert re.search(message, refusal(file))


def test_json_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[\n{"method": 1,\n]')
    assert "a.json, line 3: expected JSON" in refusal(file)


def test_missing_binary_and_no_files(tmp_path: Path) -> None:
    assert re.search("cannot read records from .*gone.jsonl: No such file", refusal(tmp_path / "gone.jsonl"))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(tmp_path / "b.jsonl")
    with pytest.raises(BadInput, match="no record found in an empty list"):
        read_records([])


def test_nan_in_an_optional_key_is_a_missing_value(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(GOOD | {"silent_fraction": float("nan")}))
    assert read_records(file)[0]["silent_fraction"] is None
