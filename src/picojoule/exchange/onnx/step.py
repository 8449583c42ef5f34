"""One node of the file with its inputs, as an operator reads it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import fx

from picojoule.errors import BadInput
from picojoule.exchange.onnx.files import to_array

LARGEST = 2**16
"""The largest window, stride, dilation or padding that is read."""


class Activation(NamedTuple):
    """A tensor that depends on the input: the node of our graph that makes it, and its shape, batch first."""

    node: fx.Node
    shape: tuple[int, ...]

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape behind the batch."""
        return self.shape[1:]


Value = Activation | np.ndarray


class Step(NamedTuple):
    """A node: operator, name, inputs (None where left out), number of outputs, and typed access to its attributes."""

    op: str
    name: str
    opset: int
    inputs: tuple[Value | None, ...]
    attributes: dict[str, Any]
    folder: Path
    outputs: int = 1

    def bad(self, why: str) -> BadInput:
        return BadInput(f"{self.op} {self.name!r} {why}")

    def given(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def activation(self, index: int = 0) -> Activation:
        value = self.given(index)
        if not isinstance(value, Activation):
            raise self.bad(f"expects a tensor that depends on the images as input {index}, got a constant or nothing")
        return value

    def constant(self, index: int) -> np.ndarray:
        value = self.given(index)
        if not isinstance(value, np.ndarray):
            raise self.bad(f"computes input {index} from the images; expected weights that the file holds")
        return value

    def scalar(self, index: int, otherwise: float) -> float:
        """A constant number given as input."""
        if self.given(index) is None:
            return otherwise
        value = self.constant(index)
        if value.size != 1:
            raise self.bad(f"expects one number as input {index}, got shape {value.shape}")
        return float(value.reshape(-1)[0])

    def whole(self, name: str, otherwise: int) -> int:
        attribute = self._typed(name, (2,))
        return otherwise if attribute is None else attribute.i

    def number(self, name: str, otherwise: float) -> float:
        attribute = self._typed(name, (1,))
        value = otherwise if attribute is None else attribute.f
        if math.isnan(value):
            raise self.bad(f"has {name} = nan")
        return value

    def text(self, name: str, otherwise: str) -> str:
        attribute = self._typed(name, (3,))
        return otherwise if attribute is None else attribute.s.decode(errors="replace")

    def wholes(self, name: str) -> list[int] | None:
        attribute = self._typed(name, (7,))
        return None if attribute is None else list(attribute.ints[: LARGEST + 1])

    def numbers(self, name: str) -> list[float] | None:
        attribute = self._typed(name, (6,))
        return None if attribute is None else list(attribute.floats[: LARGEST + 1])

    def tensor(self, name: str) -> np.ndarray | None:
        attribute = self._typed(name, (4,))
        return None if attribute is None else to_array(attribute.t, self.folder)

    def listed(self, name: str, index: int) -> list[int] | None:
        """Whole numbers from an attribute (older opsets) or a constant input (newer ones)."""
        if name in self.attributes or self.given(index) is None:
            return self.wholes(name)
        return [int(v) for v in self.constant(index).reshape(-1)[: LARGEST + 1]]

    def sizes(self, name: str, count: int, least: int = 1) -> list[int]:
        """`count` whole numbers between `least` and LARGEST; all of them `least` where the attribute is left out."""
        values = self.wholes(name) or [least] * count
        if len(values) != count or not all(least <= v <= LARGEST for v in values):
            raise self.bad(f"has {name} = {values[:8]}; expected {count} whole numbers from {least} to {LARGEST}")
        return values

    def axes(self, values: Sequence[int], rank: int) -> list[int]:
        """Axes counted from the front, in order. Raises BadInput for one that a tensor of `rank` does not have."""
        axes = sorted({v + rank if v < 0 else v for v in values})
        if not all(0 <= a < rank for a in axes):
            raise self.bad(f"names axes {list(values)[:8]} of a tensor with {rank} axes")
        return axes

    def _typed(self, name: str, types: tuple[int, ...]) -> Any:
        attribute = self.attributes.get(name)
        if attribute is not None and attribute.type not in types:
            raise self.bad(f"has an attribute {name} of a wrong type")
        return attribute
