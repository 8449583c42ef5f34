import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest
import torch

from picojoule.cli import main


@dataclass(frozen=True)
class Answer:
    code: object
    out: str
    err: str


def answer(*arguments: object) -> Answer:
    """What the command line says to these arguments, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main([str(a) for a in arguments])
    torch.use_deterministic_algorithms(False)
    return Answer(left.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def command():
    return answer


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path, monkeypatch):
    """Data and default output folders are inside `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PICOJOULE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
