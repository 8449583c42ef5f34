"""What a tensor carries: values, or events.

A kind is static: it follows from the structure of the model, never from the numbers of one batch.
"""

from dataclasses import dataclass

from picojoule.errors import BadInput


@dataclass(frozen=True)
class Values:
    """Real numbers: every product with a weight is a multiply-accumulate (MAC).

    `reason` says why a tensor that might look like events is not counted as events.
    """

    reason: str = ""


@dataclass(frozen=True)
class Events:
    """Integer multiples of `quantum`: value = n * quantum, and n unit events cost n accumulates (AC).

    `signed` tells that n may be negative; `most` is the largest |n|, or None where it is not known.
    """

    quantum: float = 1.0
    signed: bool = False
    most: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.quantum < float("inf"):
            raise BadInput(f"expected a quantum above 0, got {self.quantum}")

    def scaled(self, factor: float) -> "Events":
        """The kind after multiplication by a constant: the quantum changes, the events do not."""
        return Events(self.quantum * abs(factor), self.signed or factor < 0, self.most)

    def summed(self, terms: int) -> "Events":
        """The kind of a sum of `terms` such tensors: the quantum stays, n adds up."""
        return Events(self.quantum, self.signed, None if self.most is None else self.most * terms)


Kind = Values | Events
