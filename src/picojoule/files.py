"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from picojoule.errors import BadInput


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that becomes `path` in one step when the block ends: a reader sees the old or the new, never a part.

    It is written beside `path`, synced, then renamed; a kill at any moment leaves `path` intact, and at worst
    a file beside it, which `sweep` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written by `replacing` in a results folder and its runs."""
    for pattern in (".*.[0-9]*.tmp", "runs/*/.*.[0-9]*.tmp"):
        for left in folder.glob(pattern):
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, UTF-8, in one step."""
    with replacing(path) as file:
        file.write(text.encode())


def writable_folder(path: Path) -> Path:
    """`path` as a folder that exists and can be written. Raises BadInput if it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"cannot write to the folder {path} ({error.strerror}); choose another --out") from None
    return path
