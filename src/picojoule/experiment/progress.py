"""Progress on stderr: a bar on a terminal, nothing otherwise."""

import sys
from typing import Any

from picojoule.experiment.method import Progress


class Progressbar:
    """One line that is rewritten; silent if `quiet` or if stderr is not a terminal."""

    def __init__(self, label: str, quiet: bool):
        self._label = label
        self._live = not quiet and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progressbar":
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (
                "{task.description}",
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._label, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, progress: Progress, step: int, steps: int, sums: dict[str, float]) -> None:
        """Step `step` of `steps` of an epoch is done; `sums` are loss terms summed over its steps."""
        if self._bar is not None:
            done = progress.epoch * steps + step
            losses = " ".join(f"{name} {value / step:.3f}" for name, value in sums.items())
            note = f"epoch {progress.epoch + 1}/{progress.epochs} {losses}"
            self._bar.update(self._task, total=progress.epochs * steps, completed=done, note=note)

    def warn(self, what: str) -> None:
        """One sentence on stderr, also where there is no bar."""
        print(f"warning: {self._label}: {what}", file=sys.stderr)

    def close_epoch(self, progress: Progress, row: dict[str, float]) -> None:
        """An epoch ended with these numbers."""
        if self._bar is not None:
            note = f"epoch {progress.epoch + 1}/{progress.epochs} validation {row['validation_accuracy']:.2%}"
            self._bar.update(self._task, note=note)
