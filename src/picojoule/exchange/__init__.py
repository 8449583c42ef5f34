"""Doors to other formats, and our own model file."""

from picojoule.exchange.archive import read_notes
from picojoule.exchange.archive import save_model as save
from picojoule.exchange.door import KERAS, ONNX
from picojoule.exchange.door import open_model as load
from picojoule.exchange.factory import Declaration, Made, from_factory, is_factory, load_weights, open_factory

__all__ = [
    "KERAS",
    "ONNX",
    "Declaration",
    "Made",
    "from_factory",
    "is_factory",
    "load",
    "load_weights",
    "open_factory",
    "read_notes",
    "save",
]
