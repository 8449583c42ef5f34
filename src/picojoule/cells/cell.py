"""The contract of a part with state and synapses inside, so that its operations can be counted."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from picojoule.kinds import Events, Kind
from picojoule.neurons.stateful import Stateful


class Synapse(NamedTuple):
    """A weight layer inside a cell. `kind` is what enters it; None means the kind of the cell's input."""

    name: str
    layer: nn.Module
    kind: Kind | None


class Cell(Stateful):
    """A stateful part with synapses. Loops inside it are not traced; it reports its operands itself."""

    emits: Kind = Events(most=1)
    """The kind of the output."""

    def synapses(self) -> tuple[Synapse, ...]:
        """The weight layers inside."""
        raise NotImplementedError

    def forward_observed(self, x: Tensor, state: Any) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """As `advance`, and for each synapse by name the tensor `[T, B, ...]` that entered it."""
        raise NotImplementedError
