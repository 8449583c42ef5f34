"""Where data files are looked for, and what is said when they are missing or damaged."""

import os
from collections.abc import Iterable
from pathlib import Path

from picojoule.errors import BadInput


def places(data_dir: str | Path | None = None) -> list[Path]:
    """The folders that may hold data, first choice first; they need not exist, except `data_dir`.

    A given `data_dir` is the only place: data found elsewhere would be a surprise.

    Raises BadInput if `data_dir` is given and is no folder.
    """
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise BadInput(f"the given data folder {folder} {what}: correct the path or leave it out")
        return [folder]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "picojoule"
    chosen = os.environ.get("PICOJOULE_DATA")
    return [Path(chosen).expanduser(), cache] if chosen else [cache]


def first_folder(where: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first existing folder `place / name`; the order of places counts before the order of names."""
    names = tuple(names)
    return next((place / name for place in where for name in names if (place / name).is_dir()), None)


def first_file(where: Iterable[Path], name: str) -> Path | None:
    """The first existing `place / name`."""
    return next((place / name for place in where if (place / name).exists()), None)


def missing_data(name: str, where: list[Path], folder: str, get: str) -> BadInput:
    """The error for a data set that is in none of the places.

    `folder` is the data set's own folder inside a place; `get` says what to fetch, to fit before "into".
    """
    target = where[0] / folder
    if len(where) == 1 and where[0].is_dir() and not any(where[0].iterdir()):
        return BadInput(f"the data folder {where[0]} is empty, so {name!r} is not there: {get} into {target}")
    looked = " or ".join(str(place / folder) for place in where)
    other = ", or name your folder in $PICOJOULE_DATA" if where == places() and len(where) == 1 else ""
    return BadInput(f"no data set {name!r} in {looked}: {get} into {target}{other}")


def bad_file(path: Path, expected: str, got: str, mend: str) -> BadInput:
    """The error for a file that is damaged or not what its name says."""
    return BadInput(f"{path}: expected {expected}, got {got}; {mend}")


def read_bytes(path: Path, expected: str, mend: str) -> bytes:
    """The file's content. Raises BadInput if there is no such file or it may not be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path} is missing (expected {expected}); {mend}") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(f"{path} cannot be read ({why}): check its permissions and its disk") from None
