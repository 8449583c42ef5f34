"""The idx format of MNIST: uint8 arrays with a short header, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from picojoule.data.find import bad_file, read_bytes

_UINT8 = 0x08  # the header's third byte; other numbers stand for wider types


def read_idx(path: Path, shape: tuple[int, ...], mend: str) -> np.ndarray:
    """The uint8 array of this shape in an idx file; `path` or `path` + ".gz", whichever exists.

    Whether a file is gzipped is told by its first bytes, not by its name. `mend` ends the error message
    and says how to get a good file.

    Raises BadInput if the file is missing, truncated, damaged, or holds anything else.
    Source: http://yann.lecun.com/exdb/mnist (section "the IDX file format").
    """
    zipped = path.with_name(path.name + ".gz")
    path = zipped if zipped.is_file() or not path.is_file() else path
    expected = f"idx data of {_shape_text(shape)} bytes"
    raw = read_bytes(path, expected, mend)
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            what = "truncated" if isinstance(error, EOFError) else "damaged"
            raise bad_file(path, expected, f"a {what} gzip file of {len(raw):,} bytes", mend) from None
    if len(raw) < 4 or raw[:3] != bytes([0, 0, _UINT8]) or len(raw) < 4 + 4 * raw[3]:
        raise bad_file(path, expected, f"a file that begins with {raw[:4]!r}", mend)
    start = 4 + 4 * raw[3]
    found = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    if found != shape:
        raise bad_file(path, expected, f"{_shape_text(found)}", mend)
    size = int(np.prod(shape))
    if len(raw) - start != size:
        raise bad_file(path, expected, f"{len(raw) - start:,} bytes instead of {size:,}", mend)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
