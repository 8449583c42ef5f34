"""A guarded door to HDF5: plain groups, plain arrays and plain text that lie in the file itself."""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from picojoule.errors import BadInput

MOST_NAMES = 100_000
"""Names in one list at most (our choice)."""
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


@dataclass
class Allowance:
    """How many more bytes of numbers may be read from a file."""

    left: int

    def spend(self, size: int) -> None:
        """Raise BadInput once more was asked for than a file of this size can hold."""
        self.left -= size
        if self.left < 0:
            raise BadInput("the weights declare more numbers than a file of this size holds")


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What lies in `group` under `name`, which may be a path; None if nothing does.

    Raises BadInput for a link, which could lead into another file.
    """
    place: Any = group
    for part in name.strip("/").split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) and part not in ("", ".") else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise BadInput(f"{name!r} is a link to another place, which is not followed; save the model again")
        place = place[part]
        if not isinstance(place, h5py.Group | h5py.Dataset):
            raise BadInput(f"{name!r} is no group or array")
    return place


def children(group: h5py.Group) -> list[str]:
    """The names in a group, MOST_NAMES at most."""
    if len(group) > MOST_NAMES:
        raise BadInput(f"expected at most {MOST_NAMES} names in {group.name}, got {len(group)}")
    return [str(name) for name in group]


def text(group: h5py.Group, name: str, largest: int) -> str | None:
    """An attribute that is one text of at most `largest` bytes; None if there is none."""
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    if attribute.shape != () or attribute.dtype.itemsize > largest:
        raise BadInput(f"expected one text of at most {largest} bytes as {name}")
    value = group.attrs[name]
    if isinstance(value, bytes | np.bytes_):
        value = bytes(value).decode()
    if not isinstance(value, str) or len(value) > largest:
        raise BadInput(f"expected one text of at most {largest} bytes as {name}")
    return value


def names(group: h5py.Group, name: str) -> list[str]:
    """An attribute that is a list of texts; long ones are cut into several: `name0`, `name1`, ..."""
    if name in group.attrs:
        return _texts(group, name)
    found: list[str] = []
    for i in range(MOST_NAMES):
        if f"{name}{i}" not in group.attrs:
            break
        found += _texts(group, f"{name}{i}")
    return found


def _texts(group: h5py.Group, name: str) -> list[str]:
    attribute = group.attrs.get_id(name)
    if len(attribute.shape) != 1 or attribute.shape[0] > MOST_NAMES or attribute.dtype.itemsize > 1 << 16:
        raise BadInput(f"expected a list of at most {MOST_NAMES} names as {name}")
    values = np.asarray(group.attrs[name]).tolist()
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def numbers(dataset: h5py.Dataset, allowance: Allowance) -> Tensor:
    """The numbers of an array as float32. Raises BadInput for what is no array of numbers in the file itself."""
    plain = dataset.id.get_create_plist()
    filters = [plain.get_filter(i)[0] for i in range(plain.get_nfilters())]
    if dataset.is_virtual or plain.get_external_count() or not set(filters) <= set(_FILTERS):
        raise BadInput(f"the array {dataset.name} lies outside the file or is packed in a way that is not read")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise BadInput(f"expected the array {dataset.name} to hold float16, float32 or float64, got {dataset.dtype}")
    if not filters and dataset.id.get_storage_size() != dataset.nbytes:
        raise BadInput(f"the array {dataset.name} of {dataset.nbytes} bytes is not whole; save the model again")
    allowance.spend(dataset.nbytes)
    return torch.from_numpy(np.asarray(dataset[()], dtype=np.float32))
