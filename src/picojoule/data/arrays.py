"""Arrays of `.npz` files: read without pickle, and held against what they should be."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from picojoule.data.find import bad_file, read_bytes


def read_arrays(path: Path, keys: Sequence[str], expected: str, mend: str) -> dict[str, np.ndarray]:
    """These arrays of a file. Raises BadInput if it is missing, damaged or lacks one; objects are not read."""
    raw = read_bytes(path, expected, mend)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in keys}
    except Exception as error:  # a damaged file can be wrong in any way
        got = f"{len(raw):,} bytes that cannot be read as that ({type(error).__name__})"
        raise bad_file(path, expected, got, mend) from None


def fault_in(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[type, tuple[int, ...]]],
    largest: Mapping[str, int],
) -> str:
    """The first array of another type or shape, or with a value above its largest, in words; empty if there is none."""
    for key, (dtype, shape) in expected.items():
        array = arrays[key]
        if array.dtype != dtype or array.shape != shape:
            return f"an array {key!r} of {array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}"
    for key, most in largest.items():
        found = arrays[key].max(initial=0)
        if found > most:
            return f"a {key} of {found}, above {most}"
    return ""


def divides(offset: np.ndarray, total: int) -> bool:
    """Whether offsets `[N + 1]` cut `total` values into N parts, one after the other."""
    return offset[0] == 0 and offset[-1] == total and not (np.diff(offset) < 0).any()
