"""The command line. Commands are loaded when they are called; help needs no torch."""

from picojoule.cli.app import main

__all__ = ["main"]
