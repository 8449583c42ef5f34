"""The gate: exit code 3 exactly when a limit is missed, 2 when two measurements cannot be compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.report.gate import Limit, check, parse_limit

BASE: dict[str, Any] = {
    "schema": 1,
    "method": "plain",
    "dataset": "digits",
    "split": "test",
    "samples": 360,
    "accuracy": 0.9,
    "acs": 1000.0,
    "silent_fraction": 0.25,
    "energy_pj": {
        "fp32": {"value": 1000.0, "low": 1000.0, "high": 1000.0},
        "sram": {"value": 5000.0, "low": 2000.0, "high": 9000.0},
    },
    "hardware_notes": {"fp32": {"scope": "arithmetic", "prices": {"ac": 0.9}}, "sram": {"scope": "and memory"}},
    "layers": [{"name": "0", "kind": "values"}, {"name": "2", "kind": "events"}],
    "uncounted": ["rnn: LSTM"],
}


def priced(**values: float) -> dict[str, Any]:
    return BASE | {"energy_pj": {name: {"value": v, "low": v / 2, "high": 2 * v} for name, v in values.items()}}


@pytest.fixture
def gate(command, tmp_path):
    """What `picojoule gate` says of `new` against BASE."""
    (tmp_path / "base.json").write_text(json.dumps(BASE))

    def run(new: dict[str, Any], *arguments: str):
        (tmp_path / "new.json").write_text(json.dumps(new))
        return command("gate", "base.json", "new.json", *arguments)

    return run


@pytest.mark.parametrize(
    ("new", "limit", "code"),
    [
        (priced(fp32=1020.0, sram=5100.0), ("--energy", "+2%"), 0),
        (priced(fp32=1020.0, sram=5101.0), ("--energy", "+2%"), 3),
        (priced(fp32=1021.0, sram=5100.0), ("--energy", "2%"), 3),
        (priced(fp32=1021.0, sram=5000.0), ("--energy", "2%", "--hardware", "sram"), 0),
        (priced(fp32=900.0, sram=4500.0), ("--energy", "-10%"), 0),
        (priced(fp32=901.0, sram=4500.0), ("--energy", "-10%"), 3),
        (BASE | {"accuracy": 0.898}, ("--accuracy", "-0.2pt"), 0),
        (BASE | {"accuracy": 0.8979}, ("--accuracy", "-0.2pt"), 3),
        (BASE | {"accuracy": 0.898}, ("--accuracy", "0.2pt"), 0),
        (BASE | {"accuracy": 0.9}, ("--accuracy=+0.2pt",), 3),
        (BASE | {"acs": 1050.0}, ("--acs", "+5%"), 0),
        (BASE | {"acs": 1051.0}, ("--acs", "+5%"), 3),
        (BASE | {"silent_fraction": 0.26}, ("--silent", "+1pt"), 0),
        (BASE | {"silent_fraction": 0.2601}, ("--silent", "+1pt"), 3),
        (BASE, ("--energy", "0%", "--accuracy", "0pt", "--acs", "0%", "--silent", "0pt"), 0),
    ],
)
def test_exit_code_is_3_beyond_the_limit_and_0_at_it(gate, new, limit, code):
    said = gate(new, *limit)
    assert said.code == code, said
    assert (said.err == "") == (code == 0)
    assert ("every limit is kept" in said.out) == (code == 0) and ("MISSED" in said.out) == (code == 3)


def test_table_and_sentence_show_values_intervals_and_limits(gate):
    said = gate(priced(fp32=1020.0, sram=6000.0) | {"accuracy": 0.88}, "--energy", "+2%", "--accuracy", "-0.2pt")
    rows = {tuple(line.split()[:2]): line for line in said.out.splitlines()}
    assert "5.00 nJ (2.00 nJ to 9.00 nJ)" in rows["energy", "sram"]
    assert rows["energy", "sram"].split()[-5:] == ["+20", "%", "+2", "%", "MISSED"]
    assert rows["energy", "fp32"].split()[-5:] == ["+2", "%", "+2", "%", "kept"]
    assert rows["accuracy", "90.00"].split()[1:] == ["90.00", "%", "88.00", "%", "-2", "pt", "-0.2", "pt", "MISSED"]
    assert said.err == (
        "picojoule: the gate is missed: energy at sram changed by +20 % (limit +2 %), "
        "accuracy changed by -2 pt (limit -0.2 pt)\n"
    )


def test_json_holds_fractions_and_picojoules(gate):
    said = gate(priced(fp32=1100.0), "--energy", "+2%", "--json")
    assert said.code == 3 and said.out.count("\n") == 1
    result = json.loads(said.out)
    (row,) = result.pop("checks")
    assert result == {"base": "base.json", "new": "new.json", "kept": False}
    assert row["new"] == {"value": 1100.0, "low": 550.0, "high": 2200.0} and row["base"]["value"] == 1000.0
    assert (row["quantity"], row["hardware"], row["kept"], row["limit"]) == ("energy", "fp32", False, 0.02)
    assert row["change"] == pytest.approx(0.1)


def test_price_lists_of_one_side_are_named(gate):
    assert "not compared: sram, which only one of the measurements has" in gate(priced(fp32=1.0), "--energy", "2%").out


def test_from_zero_to_something_is_missed_and_json(gate, tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(BASE | {"acs": 0.0}))
    said = gate(BASE, "--acs", "+5%", "--json")
    assert said.code == 3 and json.loads(said.out)["checks"][0]["change"] is None
    assert "acs changed by from 0" not in said.err and "acs rose from 0" in said.err
    assert gate(BASE | {"acs": 0.0}, "--acs", "+5%").code == 0


def test_last_line_of_lines_and_a_list_of_one_are_measurements(command, tmp_path):
    worse = BASE | {"accuracy": 0.5}
    (tmp_path / "runs.jsonl").write_text(f"{json.dumps(BASE)}\n{json.dumps(worse)}\n\n")
    (tmp_path / "base.json").write_text(json.dumps([BASE], indent=1))
    assert command("gate", "base.json", "runs.jsonl", "--accuracy", "1pt").code == 3
    assert command("gate", "runs.jsonl", "base.json", "--accuracy", "1pt").code == 0


def test_a_model_without_labels_has_energy_to_compare(gate):
    assert gate(BASE | {"accuracy": None}, "--energy", "+2%").code == 0


@pytest.mark.parametrize(
    ("new", "arguments", "hint"),
    [
        (BASE, (), "at least one limit"),
        (BASE, ("--energy", "much"), "such as +2%, got 'much'"),
        (BASE, ("--energy", "2pt"), "--energy as a change in percent"),
        (BASE, ("--energy", "nan%"), "got 'nan%'"),
        (BASE, ("--energy", "--2%"), "got '--2%'"),
        (BASE, ("--accuracy", "-0.2%"), "percentage points such as -0.2pt, got '-0.2%'"),
        (BASE, ("--accuracy", "pt"), "such as -0.2pt, got 'pt'"),
        (BASE, ("--accuracy", "1pt", "--hardware", "fp32"), "--hardware names price lists for --energy"),
        (BASE, ("--energy", "1%", "--hardware", "fp23"), "did you mean 'fp32'"),
        (priced(other=3.0), ("--energy", "1%"), "have no price list in common"),
        (BASE | {"accuracy": None}, ("--accuracy", "1pt"), "new.json has no accuracy (was the model measured without"),
        (BASE | {"accuracy": 91.0}, ("--accuracy", "1pt"), "accuracy in new.json as a fraction from 0 to 1, got 91.0"),
        (BASE | {"acs": None}, ("--acs", "1%"), "new.json has no acs; leave --acs out"),
        (BASE | {"dataset": "mnist"}, ("--acs", "1%"), "dataset is digits in base.json and mnist in new.json"),
        (BASE | {"split": "train"}, ("--acs", "1%"), "split is test"),
        (BASE | {"samples": 10}, ("--acs", "1%"), "samples is 360"),
        (BASE | {"schema": 2}, ("--acs", "1%"), "schema is 1"),
        (BASE | {"layers": [{"kind": "events"}]}, ("--acs", "1%"), "input of the first layer is values"),
        (BASE | {"uncounted": ["a", "rnn: LSTM"]}, ("--acs", "1%"), "only in new.json this is not counted: a"),
        (BASE | {"uncounted": []}, ("--acs", "1%"), "only in base.json this is not counted: rnn: LSTM"),
        (BASE | {"hardware_notes": {"fp32": {"scope": "x"}}}, ("--energy", "1%"), "fp32 has other scope"),
        (
            BASE | {"hardware_notes": {"fp32": {"scope": "arithmetic", "prices": {"ac": 0.8}}}},
            ("--energy", "1%"),
            "fp32 has other prices in",
        ),
        (BASE | {"energy_pj": {"fp32": 3.0}}, ("--acs", "1%"), "new.json holds no measurement"),
        ({"records": [BASE]}, ("--acs", "1%"), "new.json holds no measurement"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(gate, new, arguments, hint):
    said = gate(new, *arguments)
    assert (said.code, said.out) == (2, "") and said.err.count("\n") == 1
    assert hint in said.err, said.err


@pytest.mark.parametrize(
    ("content", "hint"),
    [(None, "No such file"), (b"\xff\xfe", "not UTF-8"), (b" \n", "is empty"), (b"{", "expected JSON")],
)
def test_files_that_cannot_be_read(command, tmp_path: Path, content, hint):
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    if content is not None:
        (tmp_path / "new.json").write_bytes(content)
    said = command("gate", "base.json", "new.json", "--acs", "1%")
    assert said.code == 2 and hint in said.err and "new.json" in said.err


def test_a_measured_model_passes_against_itself_and_fails_at_more_steps(command, tmp_path):
    run = command("train", "plain", "--epochs", "1", "--limit-train", "64", "--out", "t", "--json")
    model = json.loads(run.out)["records"][0]["model"]
    assert command("measure", model, "--out", "base").code == 0
    (tmp_path / "again.json").write_text(command("measure", model, "--json").out)
    (tmp_path / "longer.json").write_text(command("measure", model, "--timesteps", "3", "--json").out)
    strict = ("--energy", "+0%", "--accuracy", "-0pt", "--acs", "+0%", "--silent", "+0pt")
    assert command("gate", "base/record.json", "again.json", *strict).code == 0
    assert command("gate", "base/record.json", "longer.json", "--acs", "+50%").code == 3
    assert command("gate", "--help").code == 0


@given(correct=st.integers(0, 10_000), fewer=st.integers(0, 500), points=st.integers(0, 500))
def test_accuracy_is_judged_in_whole_samples(correct, fewer, points):
    """Of 10,000 samples a hundredth of a point is one: no rounding decides the gate."""
    fewer = min(fewer, correct)
    base, new = BASE | {"accuracy": correct / 10_000}, BASE | {"accuracy": (correct - fewer) / 10_000}
    (found,) = check(base, new, [parse_limit("accuracy", f"-{points / 100}pt")])
    assert found.kept == (fewer <= points)


@given(base=st.floats(1e-3, 1e12), percent=st.integers(-99, 1000))
def test_energy_at_its_limit_is_kept_and_a_millionth_above_it_is_not(base, percent):
    at = base * (100 + percent) / 100
    limit = [Limit("energy", percent / 100)]

    def kept(new: float) -> bool:
        return check(priced(h=base), priced(h=new), limit)[0].kept

    assert kept(at) and kept(at * (1 - 1e-6)) and not kept(at + base * 1e-6)
