"""A run that is killed at any moment and resumed ends with the very weights of an undisturbed run."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

NURSERY = Path(__file__).with_name("nursery.py")
SMALL = ("--epochs", "3", "--limit-train", "200", "--batch-size", "32", "--seed", "7", "--json")
WHEN_AND_WHERE = {"wall_s", "model", "commit"}


def results(out: Path) -> dict[str, object]:
    """Everything that a run leaves behind, without when and where it was."""
    found: dict[str, object] = {}
    for folder in sorted((out / "runs").iterdir()):
        record = json.loads((folder / "record.json").read_text())
        found[f"{folder.name} record"] = {k: v for k, v in record.items() if k not in WHEN_AND_WHERE}
        found[f"{folder.name} model"] = (folder / "model.safetensors").read_bytes()
        found[f"{folder.name} files"] = sorted(p.name for p in folder.iterdir())
    found["records"] = [json.loads(line)["run"] for line in (out / "records.jsonl").read_text().splitlines()]
    found["files"] = sorted(p.name for p in out.iterdir())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan, command",
    [
        ("4+writes", ("train", "synaptic-penalty", "--network", "mlp", "--encoder", "bernoulli", "--timesteps", "2")),
        ("6", ("compare", "--methods", "ann,ecc", "--option.timesteps", "4")),
    ],
    ids=["train", "compare"],
)
def test_killed_runs_end_as_undisturbed_ones(plan, command, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    arguments = [sys.executable, str(NURSERY), str(tmp_path), "11", plan, *command, *SMALL]
    said = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=240)
    assert said.returncode == 0, said.stderr[-3000:]
    happened = json.loads(said.stdout)
    kills = Counter(happened["kills"])
    assert kills.pop("at random") == int(plan[0])
    assert list(kills.values()) == [1] * (12 if "writes" in plan else 0)
    expected = results(tmp_path / "undisturbed")
    assert expected["files"] == ["records.jsonl", "report.html", "runs"]
    for number in range(happened["runs"]):
        found = results(tmp_path / f"run-{number}")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == value, f"{key} of run {number}"
