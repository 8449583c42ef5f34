"""Keras files (`.keras`, `.h5`) as networks, read as data: Keras itself is not needed and nothing is executed."""

from picojoule.exchange.keras.load import load_keras

__all__ = ["load_keras"]
