"""Data sets with fixed train, validation and test splits.

`NAMES` and `load` are here without torch, so that a command line can check a name at once.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from picojoule.errors import unknown_name
from picojoule.lazy import lazy

if TYPE_CHECKING:
    from picojoule.data.dataset import Dataset, Split, intensities, limited, split_from_sequences

__all__ = ["NAMES", "Dataset", "Split", "intensities", "limited", "load", "split_from_sequences"]

_READERS = {
    "digits": "digits",
    "mnist": "mnist",
    "fashion-mnist": "mnist",
    "cifar10": "cifar10",
    "cifar10-fair": "cifar10",
    "cifar10-holdout": "cifar10",
    "tiny-imagenet": "tiny_imagenet",
    "nmnist": "nmnist",
    "nmnist-frames": "nmnist",
    **dict.fromkeys(("psmnist", "psmnist-keras", "smnist", "digits-sequence"), "sequences"),
}  # each data set and the module that reads it

NAMES: tuple[str, ...] = tuple(_READERS)


def load(name: str, data_dir: str | Path | None = None) -> "Dataset":
    """The data set called `name`, one of `NAMES`, read from local files; nothing is downloaded.

    `digits` comes with the package. The others are looked for in `data_dir` alone if it is given,
    otherwise in `$PICOJOULE_DATA` and then in `$XDG_CACHE_HOME/picojoule` (`~/.cache/picojoule`).

    Raises BadInput if the name is unknown, or a file is missing or damaged.
    """
    if name not in _READERS:
        raise unknown_name("dataset", name, list(NAMES))
    return import_module(f"picojoule.data.{_READERS[name]}").load(name, data_dir)


__getattr__ = lazy(
    __name__, {"picojoule.data.dataset": ("Dataset", "Split", "intensities", "limited", "split_from_sequences")}
)
