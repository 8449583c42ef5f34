"""The signals of a recurrent cell: values, or events that a diffused quantiser makes of them."""

from typing import Any

from torch import Tensor

from picojoule.kinds import Kind, Values
from picojoule.neurons import Diffused


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
