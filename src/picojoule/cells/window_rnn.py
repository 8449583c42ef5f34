"""A spiking recurrent population that reads windows within one step: our general form of recurrent networks."""

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Inside, Sent, Synapse
from picojoule.cells.window_mixer import by_pass, by_time
from picojoule.errors import BadInput, check_choice
from picojoule.kernels.lif.reference import LIFState, lif_step
from picojoule.kernels.projection import project, updates_of_one
from picojoule.kernels.window_rules import PROJECTIONS
from picojoule.kinds import Events
from picojoule.neurons import LIF, unroll
from picojoule.neurons.window_lif import lif_alone


class WindowRNN(Cell):
    """`[T, B, F]` in; the mean over W windows of their events `[T, B, H]` out, which are multiples of 1 / W.

    Each step reads its features as W windows of F / W, one after the other (an image read row by row, say). Each window
    has H neurons with the same weights; u are their potentials before the reset, v after that of the step before::

        u_k = decay * (v_k + P(u_{k-1}, u_{k-1})) + W_in x_k + W_rec s_{k-1}

    The first window is handed neither potentials nor events. So a step is one image, not one row of it, and T = 1 is W
    passes of which each needs the one before (`passes`).

    Arguments:
        in_features, hidden, windows: F, H and W > 1, which divides F.
        projection: one of `picojoule.kernels.window_rules.PROJECTIONS`.
        neuron: a LIF or IAF with one event per step.

    Source: ours, as `WindowLIF`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        windows: int,
        *,
        projection: str = "sincos",
        neuron: nn.Module | None = None,
    ):
        super().__init__()
        check_choice("projection", projection, PROJECTIONS)
        self.neuron = LIF() if neuron is None else lif_alone(neuron)
        if windows < 2:
            raise BadInput(f"expected at least 2 windows, got {windows}; SpikingRNN takes all features at once")
        if in_features % windows:
            near = min((n for n in range(2, in_features + 1) if in_features % n == 0), key=lambda n: abs(n - windows))
            raise BadInput(
                f"expected windows that divide {in_features} features evenly, got {windows}; take {near} windows, say"
            )
        self.input = nn.Linear(in_features // windows, hidden)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.sent = Sent("neuron")
        self.windows = self.passes = windows
        self.projection = projection

    @property
    def emits(self) -> Events:  # pyright: ignore[reportIncompatibleVariableOverride]  (follows from the neuron's)
        """The kind of the mean over windows."""
        return self.neuron.emits.summed(self.windows).scaled(1 / self.windows)

    def synapses(self) -> tuple[Synapse, ...]:
        return Synapse("input", self.input, None), Synapse("recurrent", self.recurrent, self.neuron.emits)

    def populations(self) -> tuple[Inside, ...]:
        updates = updates_of_one(self.projection, 1 - 1 / self.windows)
        return (Inside("neuron", type(self.neuron).__name__, "recurrent", self.neuron.emits, updates),)

    def initial_state(self, x: Tensor) -> LIFState:
        self._check(x)
        rest = x.new_zeros(1, self.windows, x.shape[1], self.recurrent.in_features)
        return self.neuron.initial_state(rest)  # v is [W, B, H]

    def advance(self, x: Tensor, state: LIFState) -> tuple[Tensor, LIFState]:
        return self.forward_observed(x, state)[:2]

    def forward_observed(self, x: Tensor, state: LIFState) -> tuple[Tensor, LIFState, dict[str, Tensor]]:
        self._check(x)
        windows = x.unflatten(2, (self.windows, -1)).transpose(1, 2)  # [T, W, B, F / W]
        state, fired = unroll(self._step, state, self.input(windows))
        entered = {"input": by_pass(windows), "recurrent": by_pass(fired[:, :-1])}
        return fired.mean(1), state, {**entered, "neuron": self.sent(by_time(fired))}

    def _step(self, state: LIFState, currents: Tensor) -> tuple[LIFState, Tensor]:
        """One time step for the currents `[W, B, H]` of the input: the potentials after it and the events."""
        p = self.neuron.step_parameters()
        after, sent = [], []
        u = None
        for v, current in zip(state.v.unbind(), currents.unbind(), strict=True):
            if u is not None:
                v, current = v + project(u, u, self.projection), current + self.recurrent(sent[-1])
            u = p.decay * v + current
            (reset,), events = lif_step(LIFState(v), current, p)
            after.append(reset)
            sent.append(events)
        return LIFState(torch.stack(after)), torch.stack(sent)

    def _check(self, x: Tensor) -> None:
        features = self.windows * self.input.in_features
        if x.dim() != 3 or x.shape[2] != features:
            raise BadInput(f"expected features [T, B, {features}], got shape {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return f"windows={self.windows}, projection={self.projection}"
