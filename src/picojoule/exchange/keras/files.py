"""The two file formats: a zip of JSON and HDF5 (`.keras`), and HDF5 alone (`.h5`)."""

import json
import mmap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from picojoule.errors import BadInput
from picojoule.exchange.keras.hdf5 import SIGNATURE, Bytes, Node, root

LARGEST_CONFIG = 8 << 20
"""Bytes of JSON at most (our choice; a layer takes about one thousand)."""
LARGEST_RATIO = 20
"""How much smaller than its content a compressed part may be (our choice; trained weights shrink by less than 2)."""


class Stored(NamedTuple):
    """What a file holds: the model's `config`, the group `weights`, and how weights are found there.

    `positional` weights have numbers for names and lie in groups named after layer types; the others have the names
    of layers and variables. `backend` and `version` are those of the Keras that wrote the file, "" where not stated.
    """

    config: dict[str, Any]
    weights: Node
    positional: bool
    backend: str
    version: str


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """The content of a Keras file, as long as the context lasts. Raises BadInput."""
    with path.open("rb") as file:
        head = file.read(8)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive:
                yield _zipped(archive)
        elif head == SIGNATURE:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield _plain(Bytes(content))
        else:
            raise BadInput("expected a zip (.keras) or an HDF5 (.h5) file, got something else; save the model again")


def _zipped(archive: zipfile.ZipFile) -> Stored:
    config = parsed(_part(archive, "config.json", LARGEST_CONFIG))
    about = parsed(_part(archive, "metadata.json", LARGEST_CONFIG))
    weights = root(Bytes(_part(archive, "model.weights.h5")))
    return Stored(config, weights, True, "", str(about.get("keras_version", "")))


def _part(archive: zipfile.ZipFile, name: str, largest: int | None = None) -> bytes:
    if name not in archive.namelist():
        raise BadInput(f"the file has no {name}; save the whole model with model.save('name.keras')")
    info = archive.getinfo(name)
    most = LARGEST_RATIO * max(info.compress_size, 1 << 16) if largest is None else largest
    if info.file_size > most:
        raise BadInput(f"{name} would unpack to {info.file_size} bytes, more than the {most} that are allowed")
    with archive.open(info) as part:
        return part.read(most + 1)


def _plain(source: Bytes) -> Stored:
    top = root(source)
    config, weights = top.text("model_config", LARGEST_CONFIG), top.child("model_weights")
    if config is None or weights is None:
        raise BadInput("the file holds weights without a model; save it whole with model.save(), not save_weights()")
    about = {key: top.text(key, 1024) or weights.text(key, 1024) or "" for key in ("backend", "keras_version")}
    return Stored(parsed(config), weights, False, about["backend"], about["keras_version"])


def parsed(source: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises BadInput."""
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the description of the model is no readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"expected the description of a model as a JSON object, got {type(value).__name__}")
    return value
