"""What `compare` and `train` share: where results go, which runs are asked for, and how they are shown."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from picojoule.cli.output import print_json
from picojoule.errors import BadInput
from picojoule.experiment.config import Training, parse_seeds, parse_strengths


@dataclass(frozen=True)
class Run:
    """How often, how long and where to run.

    Arguments:
        strength: Strength of penalties, lambda-hat, size-free; a comma list sweeps.
        seeds: Seeds as a comma list; every method runs once per seed.
        seed: One seed; the same as --seeds with one number.
        out: Output folder; a new one below runs/ by default.
        max_minutes: Stop cleanly at a checkpoint after so many minutes.
        resume: Go on with what --out holds.
        json: Print one JSON object on stdout and nothing else.
    """

    strength: str | None = None
    seeds: str | None = None
    seed: int | None = None
    out: Path | None = None
    max_minutes: float | None = None
    resume: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        if self.max_minutes is not None and not 0 <= self.max_minutes < float("inf"):
            raise BadInput(f"expected --max-minutes of at least 0, got {self.max_minutes}")

    def all_seeds(self) -> tuple[int, ...]:
        if self.seeds is not None and self.seed is not None:
            raise BadInput("give --seeds or --seed, not both")
        return parse_seeds(self.seeds if self.seeds is not None else str(self.seed or 0))


def run_and_show(names: list[str], training: Training, run: Run) -> None:
    """Run the methods and print the table, or the JSON object."""
    strengths, seeds = parse_strengths(run.strength), run.all_seeds()
    out = _folder(run, f"{training.data}-{training.network}")
    make = _maker(names, strengths, training.option)
    from picojoule.experiment.distributed import rank
    from picojoule.experiment.loop import OutOfTime
    from picojoule.experiment.table import run_table
    from picojoule.report import read_records, text_table, write_page

    stopped = False
    try:
        records = run_table(
            names, make, training, seeds, out, max_minutes=run.max_minutes, resume=run.resume, quiet=run.json
        )
    except OutOfTime:
        stopped = True
        path = out / "records.jsonl"
        records = read_records([path]) if path.exists() else []
    if rank() != 0:
        return
    page = out / "report.html"
    if records:
        write_page(records, page)
    result: dict[str, Any] = {
        "dataset": training.data,
        "records": records,
        "report": str(page) if records else None,
    }
    if stopped:
        result["stopped"] = True
        print(f"stopped at the time limit; go on with --resume --out {out}", file=sys.stderr)
    if run.json:
        print_json(result)
    elif records:
        print(text_table(records))
        print(f"\nrecords: {out / 'records.jsonl'}\nreport:  {page}")


def _maker(names: list[str], strengths: tuple[float, ...], options: dict[str, str]) -> Callable[[str], list[Any]]:
    from picojoule.methods import alternatives, check_options, has_strength, make

    if not names:
        raise BadInput("expected at least one method")
    check_options(names, options)
    if strengths and not any(has_strength(name) for name in names):
        raise BadInput(f"--strength is for penalties; {', '.join(names)} has none: leave it out")

    def every_strength(name: str) -> list[Any]:
        each = alternatives(name, options)
        methods = [make(name, strength, chosen) for strength in strengths or (None,) for chosen in each]
        return list(dict.fromkeys(methods))

    return every_strength


def _folder(run: Run, label: str) -> Path:
    if run.out is not None:
        return run.out
    if run.resume:
        raise BadInput("--resume needs --out: say which results to go on with")
    return Path("runs") / f"{label}-{datetime.now():%Y%m%d-%H%M%S}"
