"""The signals of a recurrent cell: values, or events that a diffused quantiser makes of them."""

from numbers import Integral
from typing import Any

from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kinds import Kind, Values
from picojoule.neurons import Diffused


def check_sequence(x: Tensor, features: int) -> None:
    """Raise BadInput unless `x` is `[T, B, features]` with at least one step."""
    if x.dim() != 3 or x.shape[0] < 1 or x.shape[2] != features:
        raise BadInput(f"expected a sequence [T, B, {features}] of at least one step, got shape {tuple(x.shape)}")


def check_units(**numbers: int) -> None:
    """Raise BadInput unless each is a whole number of at least 1."""
    for name, number in numbers.items():
        if not isinstance(number, Integral) or number < 1:
            raise BadInput(f"expected {name} of at least 1, a whole number, got {number!r}")


def check_quantisers(**given: Any) -> None:
    """Raise BadInput unless each is a `Diffused` or None."""
    for name, quantiser in given.items():
        if not isinstance(quantiser, Diffused | None):
            raise BadInput(
                f"expected {name} as a quantiser such as Diffused('identity', fineness=4), or None, got "
                f"{type(quantiser).__name__}"
            )


def kind_of(quantiser: Diffused | None) -> Kind:
    """What a signal carries."""
    return Values() if quantiser is None else quantiser.emits


def at_rest(quantiser: Diffused | None, like: Tensor) -> Any:
    """The quantiser's state of rest for a signal `[B, N]`; None without one."""
    return None if quantiser is None else quantiser.initial_state(like.unsqueeze(0))


def fired(quantiser: Diffused | None, signal: Tensor, state: Any) -> tuple[Tensor, Any]:
    """What is sent of a signal `[B, N]` in one step, and the quantiser's new state."""
    if quantiser is None:
        return signal, state
    state, events = quantiser.step(state, signal)
    return events, state
