"""What an ONNX file holds, checked: its graph, its opset, and its tensors as arrays."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from picojoule.errors import BadInput

MOST_BYTES = 2**31 - 1
"""The largest file of protocol buffers."""

OLDEST = 7
"""The oldest opset that is read; before it, operators broadcast in another way."""


class OnnxFile(NamedTuple):
    """A parsed file. `graph` is the `GraphProto`, `opset` the version of the standard operators, `size` in bytes."""

    path: Path
    graph: Any
    opset: int
    size: int


def read_file(path: Path) -> OnnxFile:
    """Parse `path`. Raises BadInput for what is no ONNX model, too large, or of an opset before 7."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise BadInput("reading .onnx files needs the package onnx: pip install 'picojoule[onnx]'") from None
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BadInput(f"{path} has {size:,} bytes, more than the 2 GB of an ONNX file; save its weights apart")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except (DecodeError, ValueError, RuntimeError, OSError) as error:
        raise BadInput(f"{path} is corrupt or no ONNX model: {one_line(error)}") from None
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions or not model.graph.node:
        raise BadInput(f"{path} is no ONNX model: it holds no graph of standard operators")
    if versions[0] < OLDEST:
        raise BadInput(f"{path} has opset {versions[0]}, expected {OLDEST} or newer; export it again")
    return OnnxFile(path, model.graph, versions[0], size)


def to_array(tensor: Any, folder: Path) -> np.ndarray:
    """The numbers of a `TensorProto`; `folder` is where the model lies, and holds data kept outside of it.

    Floating-point types become float32; whole numbers and booleans stay. Raises BadInput for a tensor whose
    size is not what its shape says, for other types, and for data outside of `folder`.
    """
    from onnx import helper, numpy_helper

    named = f"tensor {tensor.name!r}"
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape) or len(shape) > 8:
        raise BadInput(f"{named} has the impossible shape {shape}")
    numeric = (*_FLOATS, *_WHOLE)
    if tensor.data_type not in numeric:
        raise BadInput(f"{named} has numbers of type {tensor.data_type}; expected floating point, whole or boolean")
    if tensor.data_location == tensor.EXTERNAL:
        item = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        raw = _outside(tensor, folder, named, math.prod(shape) * item)
        array = np.frombuffer(raw, helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(shape)
    else:
        held = len(tensor.raw_data) or sum(len(getattr(tensor, field)) for field in _FIELDS)
        if math.prod(shape) > held:
            raise BadInput(f"{named} has shape {shape}, but the file holds only {held} bytes or numbers for it")
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # a file from anywhere can be wrong in any way
            raise BadInput(f"{named} cannot be read: {one_line(error)}") from None
    return array.astype(np.float32, copy=False) if tensor.data_type in _FLOATS else array


def one_line(error: BaseException) -> str:
    """The first line of an error's text, without a full stop."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in first).rstrip(". ")


def unexpected(error: BaseException) -> str:
    """What a file or node does that ends in an error which no check foresaw; the file may be right."""
    return (
        f"is damaged, or holds what this reader does not expect ({type(error).__name__}: {one_line(error)}); report it "
        "if onnx.checker finds no fault"
    )


def printable(error: BaseException) -> str:
    """An error's text, without the line breaks and control characters that names in a file can have."""
    return "".join(c if c.isprintable() else "?" for c in str(error))


def _outside(tensor: Any, folder: Path, named: str, expected: int) -> bytes:
    entries = {e.key: e.value for e in tensor.external_data}
    try:
        file = (folder / entries["location"]).resolve()
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", expected))
        inside = file.is_relative_to(folder.resolve()) and file.is_file()
    except (KeyError, ValueError, OSError):
        raise BadInput(f"{named} lies outside of the model file, and the file does not say where") from None
    if not inside:
        raise BadInput(f"{named} lies in {entries['location']!r}, which is no file beside the model; put it there")
    if length != expected or offset < 0 or offset + length > file.stat().st_size:
        raise BadInput(f"{named} needs {expected} bytes, which {entries['location']!r} does not hold at {offset}")
    with file.open("rb") as data:
        data.seek(offset)
        return data.read(length)


_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16
_WHOLE = (2, 3, 5, 6, 7, 9, 12, 13)  # uint8, int8, int16, int32, int64, bool, uint32, uint64
