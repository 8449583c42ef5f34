"""The contract of a part with state and synapses inside, so that its operations can be counted."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from picojoule.kinds import Events, Kind
from picojoule.neurons.stateful import Stateful


class Synapse(NamedTuple):
    """A weight layer inside a cell. `kind` is what enters it; None means the kind of the cell's input.

    `source` is the part of the cell whose events enter, for those whose height can be learned.
    """

    name: str
    layer: nn.Module
    kind: Kind | None
    source: nn.Module | None = None


class Inside(NamedTuple):
    """A population inside a cell: its name, its neurons, and the synapse whose output drives it.

    `kind` is what it sends, None for activations; `updates` the neuron updates of one neuron in one time step.
    `source` is the part that sends, as in `Synapse`.
    """

    name: str
    neuron: str
    synapse: str
    kind: Events | None
    updates: float = 1.0
    source: nn.Module | None = None


class Sent(nn.Module):
    """What the population `name` inside a cell sent, `[T, B, *N]`, handed on as it is: a meter hears it here."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, events: Tensor) -> Tensor:
        return events

    def extra_repr(self) -> str:
        return self.name


class Cell(Stateful):
    """A stateful part with synapses. Loops inside it are not traced; it reports its operands itself.

    It takes one tensor, or a tuple of them whose first is the stimulus, and returns one or a tuple.
    """

    emits: Kind | tuple[Kind, ...] = Events(most=1)
    """The kind of the output, or of each tensor of a tuple."""
    analog_by_step = False
    """Whether the time steps are those of the data, which an ANN, too, has to see one by one."""

    def synapses(self) -> tuple[Synapse, ...]:
        """The weight layers inside."""
        raise NotImplementedError

    def populations(self) -> tuple[Inside, ...]:
        """The populations inside; none where the output itself is what the cell's one population sends.

        Those without a `source` hand what they send through a `Sent` of their name, right behind their synapse.
        """
        return ()

    def forward_observed(self, x: Any, state: Any) -> tuple[Any, Any, dict[str, Tensor]]:
        """As `advance`, and by name the tensor `[T, B, ...]` that entered each synapse and that each population sent.

        A synapse that acts several times in a step has those passes as further steps.
        """
        raise NotImplementedError


def is_hooked(cell: nn.Module) -> bool:
    """Whether somebody, such as a meter, watches the calls of layers inside, so that each has to be called."""
    inside = (m for m in cell.modules() if m is not cell)
    return any(m._forward_hooks or m._forward_pre_hooks for m in inside)


def reports_sent(module: nn.Module) -> bool:
    """Whether it is a cell that hands on what its populations sent through `Sent`."""
    return isinstance(module, Cell) and any(isinstance(part, Sent) for part in module.children())
