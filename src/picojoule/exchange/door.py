"""One door for every model file that is data alone; which reader opens it, its name decides."""

from pathlib import Path

from picojoule.errors import BadInput
from picojoule.exchange.archive import load_model
from picojoule.networks import Network

KERAS = (".keras", ".h5", ".hdf5")
ONNX = (".onnx",)
"""Endings of the names of model files that other programs write."""


def open_model(path: Path | str, device: str = "cpu") -> Network:
    """The network in a `.safetensors` file of picojoule, or in a `.keras`, `.h5` or `.onnx` file, in evaluation mode.

    Images go in as `[B, C, H, W]`, whatever order of axes the file has. Nothing in the file is executed. Raises
    BadInput for a folder or a file that is not intact, and for layers that are not known, with their name and type.
    """
    if Path(path).is_dir():
        raise BadInput(f"expected a model file, but {path} is a folder; save the model as a file, such as model.keras")
    suffix = Path(path).suffix.lower()
    if suffix in (*KERAS, *ONNX) and not Path(path).is_file():
        raise BadInput(f"there is no model file {path}")
    if suffix in KERAS:
        from picojoule.exchange.keras import load_keras

        return load_keras(Path(path)).to(device)
    if suffix in ONNX:
        from picojoule.exchange.onnx import load_onnx

        return load_onnx(Path(path)).to(device)
    return load_model(path, device)
