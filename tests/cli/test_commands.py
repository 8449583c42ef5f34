"""Commands that work: what they print, what they write, and that the numbers hold together."""

import json
import re
from pathlib import Path

import pytest

from picojoule.cli.train import train
from picojoule.methods import METHODS

QUICK = ("--epochs", "1", "--limit-train", "200")
COMPARED = ["ann", "ann-sparse", "ann-int8", "plain", "synaptic-penalty", "ecc"]
DOCUMENTED = {
    "method",
    "network",
    "dataset",
    "seed",
    "timesteps",
    "accuracy",
    "acs",
    "macs",
    "dense_macs",
    "energy_pj",
    "silent_fraction",
    "wall_s",
    "commit",
    "model",
}
WHERE_AND_WHEN = {"wall_s", "model", "commit", "machine"}


def only_object(said) -> dict:
    """The one JSON object on stdout."""
    assert said.code == 0, said
    assert said.out.count("\n") == 1 and said.out.endswith("\n")
    return json.loads(said.out)


@pytest.fixture(scope="module")
def compared(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "results"
    return out, only_object(command("compare", "--data", "digits", *QUICK, "--json", "--out", out))


def test_compare_prints_one_object_and_writes_records_and_page(compared):
    out, printed = compared
    assert set(printed) == {"dataset", "records", "report"}
    assert printed["dataset"] == "digits"
    assert [r["method"] for r in printed["records"]] == COMPARED
    written = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert written == printed["records"]
    assert printed["report"] == str(out / "report.html")
    page = Path(printed["report"]).read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not [p for p in out.rglob("*") if p.name.endswith((".tmp", "checkpoint.pt"))]


@pytest.mark.parametrize("method", COMPARED)
def test_record_holds_what_is_documented(compared, method):
    (record,) = [r for r in compared[1]["records"] if r["method"] == method]
    assert record.keys() >= DOCUMENTED
    assert record["network"] == "small-cnn" and record["dataset"] == "digits" and record["seed"] == 0
    assert record["timesteps"] == (16 if method == "ecc" else 1)
    assert record["pool"] == "avg", "the default of digits"
    assert 0 <= record["accuracy"] <= 1 and 0 <= record["silent_fraction"] <= 1
    assert record["samples"] == 360 and "first 200 of 1,257 train images" in record["split_note"]
    assert Path(record["model"]).is_file()
    assert record["hardware"] in record["energy_pj"]
    assert record["uncounted"] == []
    for energy in record["energy_pj"].values():
        assert set(energy) == {"value", "low", "high"}
        assert 0 < energy["low"] <= energy["value"] <= energy["high"]


@pytest.mark.parametrize("method", COMPARED)
def test_energy_is_operations_times_prices(compared, method):
    (record,) = [r for r in compared[1]["records"] if r["method"] == method]
    energy = {name: e["value"] for name, e in record["energy_pj"].items()}
    dense, skipped, acs = record["dense_macs"], record["macs"], record["acs"]
    assert energy["horowitz-45nm-fp32"] == pytest.approx(4.6 * dense + 0.9 * acs, rel=1e-12)
    assert energy["horowitz-45nm-fp32-skip-zeros"] == pytest.approx(4.6 * skipped + 0.9 * acs, rel=1e-12)
    assert energy["horowitz-45nm-int8"] == pytest.approx(0.23 * dense + 0.03 * acs, rel=1e-12)
    for quantity in ("acs", "macs", "dense_macs"):
        assert sum(layer[quantity] for layer in record["layers"]) == pytest.approx(record[quantity], rel=1e-12)
    if method.startswith("ann"):
        assert acs == 0 and dense == 64 * 9 * 16 + 16 * 4 * 4 * 32 * 9 - dense_padding() + 128 * 128 + 1280
    else:
        assert acs > 0 and dense == 64 * 9 * 16 - 4 * 8 * 3 * 16 + 4 * 16, "only the first layer is analog"


def dense_padding() -> int:
    """Products with padding in the two 3x3 convolutions: three per border pixel, corners shared by two sides."""
    first = 4 * 8 * 3 * 16 - 4 * 16
    second = (4 * 4 * 3 - 4) * 16 * 32
    return first + second


def test_conversions_keep_what_their_parent_learned(compared):
    accuracy = {r["method"]: r["accuracy"] for r in compared[1]["records"]}
    assert accuracy["ann-sparse"] == accuracy["ann"]
    assert accuracy["ann-int8"] == pytest.approx(accuracy["ann"], abs=0.02)


@pytest.mark.parametrize("method", COMPARED)
def test_a_saved_model_measures_as_its_record_says(compared, command, method):
    (record,) = [r for r in compared[1]["records"] if r["method"] == method]
    again = only_object(command("measure", record["model"], "--data", "digits", "--json"))
    names = ("horowitz-45nm-fp32", "horowitz-45nm-fp32-memory")
    for key in ("accuracy", "acs", "acs_sd", "macs", "dense_macs", "silent_fraction", "timesteps", "layers", "neurons"):
        expected = record[key]
        if key == "layers":
            expected = [row | {"energy_pj": {n: row["energy_pj"][n] for n in names}} for row in expected]
        assert again[key] == expected, key
    assert again["energy_pj"] == {name: record["energy_pj"][name] for name in names}


def test_measure_prints_a_table_and_writes_a_record(compared, command, tmp_path):
    model = compared[1]["records"][-1]["model"]
    said = command("measure", model, "--hardware", "horowitz-45nm-int8", "--timesteps", "4", "--out", "measured")
    assert said.code == 0 and "horowitz-45nm-int8" in said.out
    record = json.loads((tmp_path / "measured" / "record.json").read_text())
    assert record["timesteps"] == 4 and set(record["energy_pj"]) == {"horowitz-45nm-int8"}


def without_place(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in WHERE_AND_WHEN}


@pytest.mark.parametrize(
    "arguments",
    [
        ("plain", "--encoder", "bernoulli", "--timesteps", "3"),
        ("synaptic-penalty", "--network", "mlp", "--precision", "bf16"),
        ("ecc", "--network", "mlp"),
    ],
    ids=" ".join,
)
def test_the_same_seed_gives_the_same_record(command, tmp_path, arguments):
    runs = [
        only_object(command("train", *arguments, *QUICK, "--seed", "5", "--json", "--out", tmp_path / name))["records"]
        for name in ("first", "second")
    ]
    first, second = ([without_place(record) for record in records] for records in runs)
    assert first == second
    models = [[Path(record["model"]).read_bytes() for record in records] for records in runs]
    assert models[0] == models[1]
    other = only_object(command("train", *arguments, *QUICK, "--seed", "6", "--json", "--out", tmp_path / "third"))
    assert Path(other["records"][-1]["model"]).read_bytes() != models[0][-1]


def test_a_list_of_strengths_gives_a_record_each(command, tmp_path):
    said = command(
        "train", "synaptic-penalty", *QUICK, "--network", "mlp", "--strength", "0,0.5,8", "--seeds", "0,1", "--json"
    )
    records = only_object(said)["records"]
    assert sorted((r["strength"], r["seed"]) for r in records) == [(s, n) for s in (0.0, 0.5, 8.0) for n in (0, 1)]
    assert len({r["run"] for r in records}) == len({r["model"] for r in records}) == 6
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {Path(r["model"]).parts[-4] for r in records}
    by_seed = {s: sum(r["acs"] for r in records if r["strength"] == s) for s in (0.0, 8.0)}
    assert by_seed[8.0] < by_seed[0.0], "a penalty saves operations"


def test_configuration_file_sets_and_the_command_line_wins(command, tmp_path):
    (tmp_path / "run.toml").write_text(
        "network = 'mlp'\nepochs = 1\nlimit_train = 100\nseeds = '3,4'\ntimesteps = 2\n[option]\ndecay = 0.25\n"
    )
    said = command("train", "plain", "--config", "run.toml", "--timesteps", "3", "--json", "--out", "results")
    records = only_object(said)["records"]
    assert [r["seed"] for r in records] == [3, 4]
    for record in records:
        assert record["network"] == "mlp" and record["timesteps"] == 3
        assert record["config"]["limit_train"] == 100 and record["options"]["decay"] == 0.25
    again = command("train", "plain", "--config=run.toml", "--timesteps", "3", "--json", "--out", "results", "--resume")
    assert only_object(again)["records"] == records, "finished runs are read back"


def test_arrays_of_a_configuration_file_are_comma_lists(command, tmp_path):
    (tmp_path / "run.toml").write_text(
        "methods = ['plain', 'synaptic-penalty']\nnetwork = 'mlp'\nepochs = 1\nlimit_train = 100\nseeds = [3, 4]\n"
        "strength = [0.5, 1]\n"
    )
    records = only_object(command("compare", "--config", "run.toml", "--json", "--out", "results"))["records"]
    assert {(r["method"], r["seed"], r["strength"]) for r in records} == {
        *(("plain", seed, None) for seed in (3, 4)),
        *(("synaptic-penalty", seed, strength) for seed in (3, 4) for strength in (0.5, 1.0)),
    }


def test_a_typed_option_leaves_the_others_of_the_file(command, tmp_path):
    (tmp_path / "run.toml").write_text(
        "network = 'mlp'\nepochs = 1\nlimit_train = 100\n[option]\ndecay = 0.25\nsurrogate = 'arctan'\n"
        "'plain:neuron' = 'cuba-lif'\n"
    )
    for typed in (("--option.surrogate", "sigmoid"), ("--option.surrogate=sigmoid",)):
        out = tmp_path / str(len(typed))
        said = command("train", "plain", "--config", "run.toml", *typed, "--json", "--out", out)
        (record,) = only_object(said)["records"]
        found = {name: record["options"][name] for name in ("decay", "surrogate", "neuron")}
        assert found == {"decay": 0.25, "surrogate": "sigmoid", "neuron": "cuba-lif"}


def test_an_option_for_one_method_of_the_table(command):
    said = command(
        "compare", "--methods", "plain,synaptic-penalty", *QUICK, "--network", "mlp", "--out", "results", "--json",
        "--option.plain:decay", "0.25", "--option.surrogate", "arctan",
    )  # fmt: skip
    options = {r["method"]: r["options"] for r in only_object(said)["records"]}
    assert options["plain"]["decay"] == 0.25 and options["synaptic-penalty"]["decay"] == 0.5
    assert options["plain"]["surrogate"] == options["synaptic-penalty"]["surrogate"] == "arctan"


def test_train_names_where_results_are(command, tmp_path):
    said = command("train", "plain", *QUICK, "--network", "mlp")
    assert said.code == 0 and said.err == ""
    (out,) = (tmp_path / "runs").iterdir()
    assert out.name.startswith("digits-mlp-")
    assert f"records: {out.relative_to(tmp_path)}/records.jsonl" in said.out
    assert f"report:  {out.relative_to(tmp_path)}/report.html" in said.out
    assert "plain" in said.out and "arithmetic only" in said.out


def test_report_of_records(compared, command, tmp_path):
    records = compared[0] / "records.jsonl"
    said = command("report", records, "--out", "page")
    assert said.code == 0 and (tmp_path / "page" / "report.html").is_file()
    assert all(method in said.out for method in COMPARED)
    printed = only_object(command("report", records, records, "--out", "page", "--json"))
    assert printed == {"records": 12, "report": str(Path("page") / "report.html")}


def test_report_in_markdown_writes_nothing(compared, command, tmp_path):
    said = command("report", compared[0] / "records.jsonl", "--markdown")
    assert said.code == 0 and said.out.startswith("| method") and list(tmp_path.iterdir()) == []


def test_report_updates_a_markdown_file_once(compared, command, tmp_path):
    (tmp_path / "records.jsonl").write_bytes((compared[0] / "records.jsonl").read_bytes())
    (tmp_path / "notes.md").write_text("# Notes\n<!-- table: records.jsonl -->\n<!-- end table -->\n")
    assert only_object(command("report", "--update", "notes.md", "--json")) == {"updated": True}
    assert "| synaptic-penalty" in (tmp_path / "notes.md").read_text()
    assert only_object(command("report", "--update", "notes.md", "--json")) == {"updated": False}


def test_cite(compared, command):
    every = only_object(command("cite", "--json"))
    assert list(every) == list(METHODS)
    assert "arXiv 2302.01500" in " ".join(every["synaptic-penalty"])
    one = only_object(command("cite", "ecc", "--json"))
    assert list(one) == ["ecc"] and any("fnins.2022.759900" in reference for reference in one["ecc"])
    used = only_object(command("cite", compared[0] / "records.jsonl", "--json"))
    assert list(used) == COMPARED and all(any("Horowitz" in r for r in refs) for refs in used.values())
    assert "arXiv 2302.01500" in command("cite").out


def test_doctor(command, tmp_path):
    found = only_object(command("doctor", "--json"))
    assert found["data: digits"] == "1257 train, 180 validation, 360 test"
    assert found["data: mnist"].startswith("not found: ")
    assert command("doctor", "--data-dir", tmp_path).code == 0
    lines = command("doctor").out.splitlines()
    assert all(": " in line for line in lines) and any(line.startswith("torch:") for line in lines)


@pytest.mark.parametrize("name", ["", "compare", "train", "measure", "report", "cite", "doctor"])
def test_help(command, name):
    said = command(*filter(None, [name]), "--help")
    assert said.code == 0 and said.out.startswith("Usage: picojoule") and said.err == ""


def test_help_names_every_method():
    assert set(METHODS) <= set(re.findall(r"[\w-]+", train.__doc__ or ""))


def test_version(command):
    import picojoule

    said = command("--version")
    assert (said.code, said.out.strip()) == (0, picojoule.__version__)


def test_methods_can_be_added_to_a_table_and_the_page_shows_all(command, tmp_path):
    small = ("--epochs", "1", "--limit-train", "64", "--network", "mlp", "--out", tmp_path / "t", "--json")
    assert command("compare", "--methods", "ann,plain", *small).code == 0
    added = command("compare", "--methods", "synaptic-penalty", "--strength", "1,2", "--resume", *small)
    records = json.loads(added.out)["records"]
    assert [r["method"] for r in records] == ["ann", "plain", "synaptic-penalty", "synaptic-penalty"]
    assert sorted(r["chosen"] for r in records[2:]) == [False, True]
    other = ("--epochs", "2", *small[2:])
    assert "another epochs" in command("compare", "--methods", "ecc", "--resume", *other).err


def test_a_measurement_is_a_record(command, tmp_path):
    run = command("train", "plain", "--epochs", "1", "--limit-train", "64", "--out", tmp_path / "t", "--json")
    (record,) = json.loads(run.out)["records"]
    assert command("measure", record["model"], "--out", tmp_path / "m").code == 0
    measured = json.loads((tmp_path / "m" / "record.json").read_text())
    same = ("method", "network", "dataset", "seed", "options", "accuracy", "acs")
    assert {k: measured[k] for k in same} == {k: record[k] for k in same}
    assert command("report", tmp_path / "m" / "record.json", "--out", tmp_path / "m").code == 0
    assert "Alpaydin" in command("cite", tmp_path / "m" / "record.json").out


def test_a_methods_own_steps_win(command, tmp_path):
    small = ("--epochs", "1", "--limit-train", "64", "--timesteps", "2", "--out", tmp_path / "t", "--json")
    run = command("compare", "--methods", "plain,ecc", "--option.ecc:timesteps", "3", *small)
    assert {r["method"]: r["timesteps"] for r in json.loads(run.out)["records"]} == {"ann": 1, "plain": 2, "ecc": 3}


def test_a_strength_that_nobody_has_is_refused(command, tmp_path):
    said = command("train", "plain", "--strength", "3", "--out", tmp_path / "t")
    assert said.code == 2 and "--strength is for penalties" in said.err


@pytest.mark.parametrize("content", ["{", "[1]\n", '{"method": "x"}\n'])
def test_resume_over_foreign_records(command, tmp_path, content):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "records.jsonl").write_text(content)
    said = command("train", "plain", "--resume", "--out", tmp_path / "t")
    assert said.code == 2 and "does not hold records of runs" in said.err
