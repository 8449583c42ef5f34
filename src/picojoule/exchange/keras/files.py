"""The two file formats: a zip of JSON and HDF5 (`.keras`), and HDF5 alone (`.h5`)."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from picojoule.errors import BadInput
from picojoule.exchange.keras.hdf5 import Allowance, child, text

LARGEST_CONFIG = 32 << 20
"""Bytes of JSON at most (our choice; the deepest published networks need about one hundredth)."""
LARGEST_RATIO = 20
"""How much smaller than its content a compressed part may be (our choice; trained weights shrink by less than 2)."""


class Stored(NamedTuple):
    """What a file holds: the model's `config`, the group `weights`, and how weights are found there.

    `positional` weights have numbers for names and lie in groups named after layer types; the others have the names
    of layers and variables. `backend` and `version` are those of the Keras that wrote the file, "" where not stated.
    """

    config: dict[str, Any]
    weights: h5py.Group
    positional: bool
    backend: str
    version: str
    allowance: Allowance


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """The content of a Keras file, as long as the context lasts. Raises BadInput."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            yield from _zipped(archive)
    elif head == b"\x89HDF\r\n\x1a\n":
        with h5py.File(path, "r", locking=False) as file:
            yield _plain(file, size)
    else:
        raise BadInput("expected a zip (.keras) or an HDF5 (.h5) file, got something else; save the model again")


def _zipped(archive: zipfile.ZipFile) -> Iterator[Stored]:
    config = parsed(_part(archive, "config.json", LARGEST_CONFIG))
    about = parsed(_part(archive, "metadata.json", LARGEST_CONFIG))
    weights = _part(archive, "model.weights.h5")
    with h5py.File(io.BytesIO(weights), "r") as file:
        version = str(about.get("keras_version", ""))
        yield Stored(config, file, True, "", version, Allowance(LARGEST_RATIO * len(weights)))


def _part(archive: zipfile.ZipFile, name: str, largest: int | None = None) -> bytes:
    if name not in archive.namelist():
        raise BadInput(f"the file has no {name}; save the whole model with model.save('name.keras')")
    info = archive.getinfo(name)
    most = LARGEST_RATIO * max(info.compress_size, 1 << 16) if largest is None else largest
    if info.file_size > most:
        raise BadInput(f"{name} would unpack to {info.file_size} bytes, more than the {most} that are allowed")
    with archive.open(info) as part:
        return part.read(most + 1)


def _plain(file: h5py.File, size: int) -> Stored:
    config = text(file, "model_config", min(LARGEST_CONFIG, size))
    weights = child(file, "model_weights")
    if config is None or not isinstance(weights, h5py.Group):
        raise BadInput("the file holds weights without a model; save it whole with model.save(), not save_weights()")
    about = {key: text(file, key, 1024) or text(weights, key, 1024) or "" for key in ("backend", "keras_version")}
    allowance = Allowance(LARGEST_RATIO * size)
    return Stored(parsed(config), weights, False, about["backend"], about["keras_version"], allowance)


def parsed(source: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises BadInput."""
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the description of the model is no readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"expected the description of a model as a JSON object, got {type(value).__name__}")
    return value
