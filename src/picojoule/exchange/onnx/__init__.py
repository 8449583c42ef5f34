"""Reads `.onnx` files with the package `onnx` alone: the file is data, nothing in it is executed."""

from picojoule.exchange.onnx.build import load_onnx

__all__ = ["load_onnx"]
