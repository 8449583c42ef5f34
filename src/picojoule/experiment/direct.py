"""Direct training of a spiking network by surrogate gradients: what its methods share."""

from dataclasses import dataclass

from picojoule.errors import BadInput, unknown_name
from picojoule.experiment.method import Method
from picojoule.networks import Definition, Network, build
from picojoule.neurons import LIF, CubaLIF, Neuron, surrogate

NEURONS = ("lif", "cuba-lif")


@dataclass(frozen=True)
class Direct(Method):
    """The options of spiking neurons.

    `neuron` is lif or cuba-lif; `decay` their factor on the potential per step (it acts from the second step on),
    `synaptic_decay` that on the current of cuba-lif; `surrogate` is one of triangle, rectangle, arctan, sigmoid, s3nn
    and fast_sigmoid, with its shape as in `fast_sigmoid:slope=100`.
    """

    neuron: str = "lif"
    decay: float = 0.5
    synaptic_decay: float = 0.8
    surrogate: str = "triangle"

    def __post_init__(self) -> None:
        if self.neuron not in NEURONS:
            raise unknown_name("neuron", self.neuron, list(NEURONS))
        self.one_neuron()

    def build(self, definition: Definition) -> Network:
        return build(definition, self.one_neuron)

    def one_neuron(self) -> Neuron:
        """A population with these options."""
        slope = surrogate(*_named(self.surrogate)[:1], **_named(self.surrogate)[1])
        if self.neuron == "lif":
            return LIF(self.decay, surrogate=slope)
        return CubaLIF(self.synaptic_decay, self.decay, surrogate=slope)


def _named(text: str) -> tuple[str, dict[str, float]]:
    """`"fast_sigmoid:slope=100"` as its name and shape."""
    name, _, rest = text.partition(":")
    return name, parse_numbers(rest, "surrogate", "fast_sigmoid:slope=100")


def parse_numbers(text: str, what: str, example: str) -> dict[str, float]:
    """`"a=1,b=2"` as numbers by name. Raises BadInput."""
    try:
        pairs = [part.split("=") for part in text.split(",") if part.strip()]
        named = [(name.strip(), float(number)) for name, number in pairs]
    except ValueError:
        raise BadInput(f"expected {what} like {example}, got {text!r}") from None
    if len(dict(named)) < len(named):
        raise BadInput(f"expected every name once in {what}, as in {example}, got {text!r}")
    return dict(named)
