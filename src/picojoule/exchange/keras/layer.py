"""One layer of a Keras file: its settings and its weights, checked as they are asked for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from picojoule.errors import BadInput
from picojoule.exchange.keras.hdf5 import Node


@dataclass(frozen=True)
class Layer:
    """Settings and weights of one layer; every question raises BadInput with the layer's name and type.

    `path` is its name behind those of the models around it. `arrays` are named by variable, or by position where
    `positional`. `backend` and `version` tell which Keras wrote the file.
    """

    path: tuple[str, ...]
    kind: str
    config: dict[str, Any]
    keywords: dict[str, Any]
    arrays: dict[str, Node]
    positional: bool
    backend: str
    version: str

    def refuse(self, reason: str) -> BadInput:
        """The error for this layer."""
        return BadInput(f"layer {'/'.join(self.path)!r} ({self.kind}) {reason}")

    def whole(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`."""
        value = self.config.get(key, default)
        if type(value) is not int or value < least:
            raise self.refuse(f"needs a whole number of at least {least} as {key}, got {value!r:.80}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            raise self.refuse(f"needs a finite number as {key}, got {value!r:.80}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise self.refuse(f"needs true or false as {key}, got {value!r:.80}")
        return value

    def choice(self, key: str, known: tuple[str, ...], default: str) -> str:
        """One of the words `known`; null stands for the default."""
        value = self.config.get(key) or default
        if value not in known:
            raise self.refuse(f"needs one of {', '.join(known)} as {key}, got {value!r:.80}")
        return str(value)

    def sizes(self, key: str, rank: int, default: Any = None, least: int = 1) -> tuple[int, ...]:
        """`rank` whole numbers, which a file may write as one."""
        value = self.config.get(key)
        value = default if value is None else value
        value = [value] * rank if type(value) is int else value
        if not isinstance(value, list | tuple) or len(value) != rank:
            raise self.refuse(f"needs {rank} whole numbers as {key}, got {value!r:.80}")
        if any(type(size) is not int or not least <= size < 1 << 31 for size in value):
            raise self.refuse(f"needs whole numbers of at least {least} as {key}, got {value!r:.80}")
        return tuple(value)

    def borders(self, key: str, rank: int) -> tuple[tuple[int, int], ...]:
        """How much is added or left out before and behind each of `rank` axes."""
        value = self.config.get(key)
        pairs = [value] if rank == 1 and isinstance(value, list) and value and type(value[0]) is int else value
        pairs = [[pairs, pairs]] * rank if type(pairs) is int else pairs
        pairs = [[p, p] if type(p) is int else p for p in pairs] if isinstance(pairs, list) else pairs
        if not isinstance(pairs, list) or len(pairs) != rank:
            raise self.refuse(f"needs {rank} pairs of whole numbers as {key}, got {value!r:.80}")
        for pair in pairs:
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or any(type(n) is not int or not 0 <= n < 1 << 31 for n in pair)
            ):
                raise self.refuse(f"needs pairs of whole numbers as {key}, got {value!r:.80}")
        return tuple((pair[0], pair[1]) for pair in pairs)

    def take(self, shapes: dict[str, tuple[int, ...]], ignored: Iterable[str] = ()) -> dict[str, Tensor]:
        """The weights of these names and shapes, float32 and finite; others than these and the `ignored` raise."""
        known = [*shapes, *ignored]
        arrays = dict(zip(known, self.arrays.values(), strict=False)) if self.positional else self.arrays
        surplus = list(self.arrays)[len(known) :] if self.positional else [n for n in arrays if n not in known]
        if surplus:
            raise self.refuse(f"has a weight {surplus[0]!r} that its settings do not ask for; save the model again")
        return {name: self._checked(name, arrays, shape) for name, shape in shapes.items()}

    def _checked(self, name: str, arrays: dict[str, Node], shape: tuple[int, ...]) -> Tensor:
        if name not in arrays:
            raise self.refuse(f"has no weight {name!r} in the file; save the model again after it was built")
        found = arrays[name].shape
        if found != shape:
            raise self.refuse(f"needs a weight {name!r} of shape {shape}, got {found}")
        tensor = arrays[name].numbers()
        if not math.isfinite(float(tensor.abs().sum(dtype=tensor.double().dtype))):
            raise self.refuse(f"has NaN or infinity in its weight {name!r}; train it again from a sound checkpoint")
        return tensor
