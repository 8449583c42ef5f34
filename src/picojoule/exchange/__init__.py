"""Doors to other formats, and our own model file."""

from picojoule.exchange.archive import load_model as load
from picojoule.exchange.archive import read_notes
from picojoule.exchange.archive import save_model as save

__all__ = ["load", "read_notes", "save"]
