"""What README and docs promise: code that runs, tables that are generated, links that lead somewhere."""

import re
import shutil
from pathlib import Path

import pytest

from picojoule.report import update_tables

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")])


def test_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "horowitz-45nm-fp32" in capsys.readouterr().out
    assert names["loss"].grad_fn is not None  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_generated(document: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.md"
    shutil.copy(document, copy)
    assert not update_tables(copy, ROOT), f"run `picojoule report --update {document.relative_to(ROOT)}`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
