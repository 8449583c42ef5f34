"""Starts runs and kills them: `python nursery.py OUT SEED PLAN COMMAND...`. Used by `test_kills.py`.

PLAN is how many kills come at random moments, and with "+writes" one more in every stage of every write.

Children are forked from this process after the imports, so a resumed run costs no start-up. In a child every
step ends with a checkpoint. OUT gets a folder `undisturbed`, and folders of runs that were killed and resumed
until they ended; what happened is printed as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from picojoule import files
from picojoule.cli import main
from picojoule.exchange import archive
from picojoule.experiment import checkpoint, loop, table  # noqa: F401  (loaded before the forks)
from picojoule.methods import METHODS  # noqa: F401  (loaded before the forks)
from picojoule.report import page  # noqa: F401  (loaded before the forks)

IN_A_WRITE = [
    (name, stage)
    for name in ("checkpoint.pt", "model.safetensors", "record.json", "records.jsonl")
    for stage in ("half written", "before the rename", "after the rename")
]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly_writes(name: str, stage: str, spared: int) -> None:
    """Die in a write of the file `name`, after so many writes of it."""
    real, seen = files.replacing, 0

    @contextmanager
    def replacing(path: Path) -> Iterator[IO[bytes]]:
        nonlocal seen
        seen += path.name == name
        now = path.name == name and seen > spared
        with real(path) as file:
            yield file
            file.flush()
            if now and stage == "half written":
                file.truncate(file.tell() // 2)
            if now and stage != "after the rename":
                die()
        if now:
            die()

    files.replacing = checkpoint.replacing = archive.replacing = replacing


def forked(out: Path, command: list[str], prepare: Callable[[], None]) -> int:
    """A child that runs the command line with its output thrown away."""
    pid = os.fork()
    if pid:
        return pid
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    torch.set_num_threads(1)
    prepare()
    code = 1
    try:
        main([*command, "--out", str(out)])
    except SystemExit as left:
        code = left.code or 0
    finally:
        os._exit(int(code))


def killed(pid: int, after: float | None) -> bool:
    """Wait for a child, kill it after so many seconds; whether it was killed. It must not fail."""
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"a run failed with {os.WEXITSTATUS(status)}"
    return False


def nurse(out: Path, seed: int, plan: str, command: list[str]) -> dict[str, object]:
    chance = random.Random(seed)
    started = time.monotonic()
    assert not killed(forked(out / "undisturbed", command, lambda: None), None)
    seconds = time.monotonic() - started

    def eager() -> None:
        loop.CHECKPOINT_SECONDS = 0.0

    runs = 0
    kills: list[str] = []
    places: list[tuple[str, str] | None] = [None] * int(plan.removesuffix("+writes"))
    for place in places + (IN_A_WRITE if plan.endswith("+writes") else []):
        while True:  # until the kill hits: a run may end before it
            folder = out / f"run-{runs}"
            if place is None:
                after = chance.uniform(0.02, 0.5) * seconds
                hit = killed(forked(folder, [*command, "--resume"], eager), after)
            else:
                name, stage = place
                spared = chance.randrange(4) if name == "checkpoint.pt" else 0

                def prepare(name: str = name, stage: str = stage, spared: int = spared) -> None:
                    eager()
                    deadly_writes(name, stage, spared)

                hit = killed(forked(folder, [*command, "--resume"], prepare), None)
            if hit:
                kills.append("at random" if place is None else f"{place[0]} {place[1]}")
                break
            runs += 1
            assert runs < 20, "runs end before they can be killed"
    assert not killed(forked(out / f"run-{runs}", [*command, "--resume"], eager), None)
    return {"kills": kills, "runs": runs + 1}


if __name__ == "__main__":
    print(json.dumps(nurse(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])))
