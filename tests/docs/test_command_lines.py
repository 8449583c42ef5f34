"""The command lines of recipes and documents: settings, methods and options exist, and networks fit their data."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from picojoule.cli.app import main
from picojoule.data import Dataset, Split
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.method import Method
from picojoule.kinds import Events, Values

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
DOCUMENTS = [ROOT / "README.md", ROOT / "docs/guide.md", ROOT / "docs/lmu.md", *sorted(ROOT.glob("docs/methods/*.md"))]
SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "nmnist": (20, 2, 34, 34),
    "nmnist-frames": (2, 34, 34),
    "psmnist": (784, 1),
    "digits-sequence": (64, 1),
}


def in_recipe(recipe: Path) -> list[str]:
    """The command lines in a recipe's first comment; `...` stands for the first one without its --out."""
    lines = re.findall(r"^#     (.+)$", recipe.read_text(), re.MULTILINE)
    first = lines[0].split(" --out")[0]
    return [line.replace("...", first) for line in lines]


def in_document(text: str) -> list[str]:
    """The lines of `train` and `compare` in blocks that name no language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    return [line for line in lines if re.match("picojoule (train|compare) ", line)]


COMMANDS = sorted(
    {line for recipe in RECIPES for line in in_recipe(recipe)}
    | {line for document in DOCUMENTS for line in in_document(document.read_text())}
)


def test_lines_are_found() -> None:
    text = "```python\npicojoule train \n```\nThis:\n```\npicojoule train plain --x\npicojoule cite\n```\n"
    assert in_document(text) == ["picojoule train plain --x"]
    named = {"synaptic-penalty-cifar10", "first-spike-nmnist"}
    assert named <= {recipe.stem for recipe in RECIPES}
    assert all(f"recipes/{recipe.name}" in in_recipe(recipe)[0] for recipe in RECIPES)
    assert any("first-spike:strength" in command for command in COMMANDS)


def of_shape(name: str, data_dir: Path | None) -> Dataset:
    """Blank images of the shape of a dataset."""
    shape = SHAPES.get(name, (3, 32, 32))
    blank = Split(torch.zeros(2, *shape, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    kind = Events(most=1) if len(shape) == 4 else Values()
    return Dataset(name, blank, blank, blank, 10, 1, "", "", "", "", kind)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_names_runs_that_can_start(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs: list[str] = []

    def named(methods: list[Method], setting: Setting, seeds: tuple[int, ...]) -> list[Any]:
        runs.extend(Job(setting, method, seed).name for method in methods for seed in seeds)
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("picojoule.experiment.table.load", of_shape)
    monkeypatch.setattr("picojoule.experiment.table.limited", lambda data, train: data)
    monkeypatch.setattr("picojoule.experiment.table._run_all", named)
    monkeypatch.setattr("picojoule.experiment.table.reuse_pages", lambda: None)
    monkeypatch.setattr("picojoule.experiment.table.take_weights", lambda network, path: None)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command.replace(" recipes/", f" {ROOT}/recipes/"))[1:])
    assert ended.value.code == 0
    assert runs and len(runs) == len(set(runs))
    assert all(len(run.encode()) < 256 for run in runs)  # the name of its folder
