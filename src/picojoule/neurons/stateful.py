"""The contract of every part that remembers: state is a value, passed in and handed back."""

from typing import Any

from torch import Tensor, nn


class Stateful(nn.Module):
    """A part with state. Calling it starts from rest, so there is nothing to reset.

    Sub-classes implement `initial_state` and `advance`. A sub-class that contains synapses also implements
    `forward_observed` (see `picojoule.cells`). `observable` False says that it hides neurons from `observe`;
    `passes` are those in one time step of which each needs the one before.
    """

    observable = True
    passes = 1

    def initial_state(self, x: Tensor) -> Any:
        """The state of rest for an input like `x`."""
        raise NotImplementedError

    def advance(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Go on from `state`: returns the output and the new state. In pieces equals whole."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.advance(x, self.initial_state(x))[0]
