"""The Legendre Memory Unit: a linear memory of the past and hidden units that write to it and read it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Inside, Synapse, is_hooked
from picojoule.cells.legendre import LegendreMemory, Matrices
from picojoule.cells.signals import at_rest, check_quantisers, check_sequence, check_units, fired, kind_of
from picojoule.errors import BadInput, check_choice
from picojoule.kernels.gated.reference import gru_step, lstm_step
from picojoule.kernels.lmu.chunks import in_chunks, reads_of
from picojoule.kinds import Kind
from picojoule.neurons import Diffused

CHUNK = 16
"""Steps per chunk (our choice, see docs/lmu.md)."""

HIDDEN = {"rnn": 1, "lstm": 4, "gru": 3}
"""The hidden cells, and how many sums each of their units has."""


class LMUState(NamedTuple):
    """h as it was sent `[B, H]`, the memory m `[B, D, q]`, its copy that was sent `[B, D * q]`, quantisers' states.

    `c` `[B, H]` is what gated hidden cells keep: c of an LSTM, h of a GRU before it was quantised.
    """

    h: Tensor
    m: Tensor
    sent: Tensor
    c: Tensor
    errors: dict[str, Any]


class _Kept(NamedTuple):
    """What an observed pass hands out of its steps, lists over time."""

    u: list[Tensor]
    m: list[Tensor]
    sent: list[Tensor]


class LMU(Cell):
    """The Legendre Memory Unit: `[T, B, F]` in, h `[T, B, H]` out::

        u_t = e_x x_t + e_h h_{t-1} + e_m m_{t-1}
        m_t = Ad m_{t-1} + Bd u_t
        h_t = tanh(W_x x_t + W_h h_{t-1} + W_m m_t)

    Arguments:
        features, hidden: F and H.
        memory: the `LegendreMemory`, whose `inputs` D is the length of u. Use its `theta` for the sequences' length.
        cell: "rnn" as above, or "lstm" and "gru", whose gates take x_t and m_t as inputs.
        feedback: whether e_h and e_m exist.
        bias: a bias of the hidden units.
        spike_h, spike_u, spike_m: quantisers of h, of u, and of the copy of m that W_m and e_m read (what is stored
            stays as it is), such as `Diffused("identity", fineness=4)`; None sends values.
        last: give only the last h, `[1, B, H]`.

    It starts as in the authors' psMNIST benchmark: e_x one, e_h, e_m, W_x and W_h zero, W_m Glorot normal, no bias.
    `LMU.as_keras` is the variant of KerasLMU. The cell runs in float32 at least, under autocast too.

    Source: Voelker, Kajic and Eliasmith 2019, Legendre Memory Units, NeurIPS 32, and its released code; quantised:
    Voelker, Rasmussen, Eliasmith 2020, arXiv 2002.03553 (which signals are quantised is our choice).
    """

    analog_by_step = True

    def __init__(
        self,
        features: int,
        hidden: int,
        memory: LegendreMemory,
        *,
        cell: str = "rnn",
        feedback: bool = True,
        bias: bool = False,
        spike_h: Diffused | None = None,
        spike_u: Diffused | None = None,
        spike_m: Diffused | None = None,
        last: bool = False,
    ):
        super().__init__()
        check_choice("cell", cell, HIDDEN)
        check_units(features=features, hidden=hidden)
        check_quantisers(spike_h=spike_h, spike_u=spike_u, spike_m=spike_m)
        self.cell, self.last = cell, last
        states, sums = memory.inputs * memory.order, HIDDEN[cell] * hidden
        self.memory = memory
        self.e_x = nn.Linear(features, memory.inputs, bias=False)
        self.e_h = nn.Linear(hidden, memory.inputs, bias=False) if feedback else None
        self.e_m = nn.Linear(states, memory.inputs, bias=False) if feedback else None
        self.W_x = nn.Linear(features, sums, bias=bias)
        self.W_h = nn.Linear(hidden, sums, bias=False)
        self.W_m = nn.Linear(states, sums, bias=False)
        self.spike_h, self.spike_u, self.spike_m = spike_h, spike_u, spike_m
        nn.init.ones_(self.e_x.weight)
        nn.init.xavier_normal_(self.W_m.weight)
        for started_at_zero in (self.e_h, self.e_m, self.W_x, self.W_h):
            for parameter in () if started_at_zero is None else started_at_zero.parameters():
                nn.init.zeros_(parameter)

    @classmethod
    def as_keras(cls, features: int, hidden: int, memory: LegendreMemory, **settings: Any) -> "LMU":
        """As KerasLMU's psMNIST example has it: no feedback into u, a bias, and the start of a Keras SimpleRNN.

        W_x and W_m start Glorot uniform (as one matrix), W_h orthogonal, and e_x at one. `settings` are `last` and the
        quantisers.
        """
        for name in ("cell", "feedback", "bias"):
            if name in settings:
                raise BadInput(f"expected no {name} for LMU.as_keras, which has its own; leave it out, or make an LMU")
        lmu = cls(features, hidden, memory, feedback=False, bias=True, **settings)
        both = torch.cat([lmu.W_x.weight, lmu.W_m.weight], 1).detach()
        nn.init.xavier_uniform_(both)
        with torch.no_grad():
            lmu.W_x.weight.copy_(both[:, :features])
            lmu.W_m.weight.copy_(both[:, features:])
        nn.init.orthogonal_(lmu.W_h.weight)
        return lmu

    @property
    def emits(self) -> Kind:  # pyright: ignore[reportIncompatibleVariableOverride]  (changes with the fineness)
        """The kind of h."""
        return kind_of(self.spike_h)

    @property
    def neuron(self) -> Diffused | None:
        """What makes events of h."""
        return self.spike_h

    def synapses(self) -> tuple[Synapse, ...]:
        h, u, m = ((kind_of(s), s) for s in (self.spike_h, self.spike_u, self.spike_m))
        found = [Synapse("e_x", self.e_x, None), Synapse("W_x", self.W_x, None)]
        if self.e_h is not None and self.e_m is not None:
            found += [Synapse("e_h", self.e_h, *h), Synapse("e_m", self.e_m, *m)]
        found += [*self.memory.transition_synapses("memory."), Synapse("memory.Bd", self.memory.Bd, *u)]
        return *found, Synapse("W_m", self.W_m, *m), Synapse("W_h", self.W_h, *h)

    def populations(self) -> tuple[Inside, ...]:
        """The signals that are quantised."""
        driven = {"h": "W_h", "u": "e_x" if self.e_m is None else "e_m", "m": "memory.Bd"}
        return tuple(
            Inside(name, type(quantiser).__name__, driven[name], quantiser.emits, source=quantiser)
            for name, quantiser in self._quantisers().items()
        )

    def _quantisers(self) -> dict[str, Diffused]:
        all_signals = {"h": self.spike_h, "u": self.spike_u, "m": self.spike_m}
        return {name: quantiser for name, quantiser in all_signals.items() if quantiser is not None}

    def initial_state(self, x: Tensor) -> LMUState:
        x = x.to(self.W_h.weight.dtype)
        m = self.memory.initial_state(x)
        h = x.new_zeros(x.shape[1], self.W_h.in_features)
        signals = {"h": (self.spike_h, h), "u": (self.spike_u, m[..., 0]), "m": (self.spike_m, m.flatten(1))}
        errors = {name: at_rest(quantiser, like) for name, (quantiser, like) in signals.items()}
        return LMUState(h, m, m.flatten(1), torch.zeros_like(h), errors)

    def advance(self, x: Tensor, state: LMUState) -> tuple[Tensor, LMUState]:
        check_sequence(x, self.W_x.in_features)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.W_h.weight.dtype)
            steps = len(x) // CHUNK * CHUNK if self._runs_in_chunks() else 0
            matrices = self.memory.matrices() if steps else None
            parts: list[Tensor] = []
            if matrices is not None:
                h, _, state = self._chunks(x[:steps], state, matrices)
                parts.append(state.h.unsqueeze(0) if self.last else h)
            if steps < len(x):
                h, state = self._loop(x[steps:], state, matrices)
                parts.append(h[-1:] if self.last else h)
        return parts[-1] if self.last or len(parts) == 1 else torch.cat(parts), state

    def forward_observed(self, x: Tensor, state: LMUState) -> tuple[Tensor, LMUState, dict[str, Tensor]]:
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(self.W_h.weight.dtype)
            h, u, m, sent, after = self._all(wide, state)
            sent_h, held = (torch.cat([of.unsqueeze(0), now[:-1]]) for of, now in ((state.h, h), (state.m, m)))
            entered = {"e_x": x, "W_x": x, "W_h": sent_h, "W_m": sent, "memory.Bd": u.unsqueeze(-1)}
            entered |= self.memory.transition_operands(held, "memory.")
            if self.e_h is not None:
                entered |= {"e_h": sent_h, "e_m": torch.cat([state.sent.unsqueeze(0), sent[:-1]])}
            every = {"h": h, "u": u, "m": sent}
            entered |= {name: every[name] for name in self._quantisers()}
        return h[-1:] if self.last else h, after, entered

    def _all(self, x: Tensor, state: LMUState) -> tuple[Tensor, Tensor, Tensor, Tensor, LMUState]:
        """h, u, m, its copy that was sent, of all steps, and the state after them."""
        steps = len(x) // CHUNK * CHUNK if self._runs_in_chunks() and not torch.is_grad_enabled() else 0
        matrices = self.memory.matrices() if steps else None
        found: list[tuple[Tensor, ...]] = []
        if matrices is not None:
            h, u, after = self._chunks(x[:steps], state, matrices)
            m = self.memory.states(u, state.m)
            found.append((h, u, m, m.flatten(2)))
            state = after
        if steps < len(x):
            kept = _Kept([], [], [])
            h, state = self._loop(x[steps:], state, matrices, kept)
            found.append((h, *(torch.stack(signal) for signal in kept)))
        h, u, m, sent = map(torch.cat, zip(*found, strict=True))
        return h, u, m, sent, state

    def _loop(
        self, x: Tensor, state: LMUState, matrices: Matrices | None = None, kept: _Kept | None = None
    ) -> tuple[Tensor, LMUState]:
        """Step by step, as the equations say."""
        remember, outputs = self.memory.step_function(matrices), []
        h, m, sent, c, errors = state
        errors = dict(errors)
        for u, fresh in zip(self.e_x(x).unbind(0), self.W_x(x).unbind(0), strict=True):
            if self.e_h is not None and self.e_m is not None:
                u = u + self.e_h(h) + self.e_m(sent)
            u = _fired(self.spike_u, "u", u, errors)
            m = remember(m, u)
            sent = _fired(self.spike_m, "m", m.flatten(1), errors)
            h, c = self._units(fresh + self.W_m(sent), h, c)
            h = _fired(self.spike_h, "h", h, errors)
            outputs.append(h)
            if kept is not None:
                for signal, now in zip(kept, (u, m, sent), strict=True):
                    signal.append(now)
        return torch.stack(outputs), LMUState(h, m, sent, c, errors)

    def _units(self, fresh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """h, not quantised yet, and what is kept."""
        recurrent = self.W_h(h)
        if self.cell == "lstm":
            return lstm_step(c, fresh + recurrent)
        if self.cell == "gru":
            h = gru_step(c, fresh, recurrent)
            return h, h
        return torch.tanh(fresh + recurrent), c

    def _runs_in_chunks(self) -> bool:
        """Whether the memory need not be known at every step, and nobody watches the layers inside."""
        plain = all(s is None or _is_straight(s) for s in (self.spike_h, self.spike_u))
        return self.cell == "rnn" and self.spike_m is None and plain and not is_hooked(self)

    def _chunks(self, x: Tensor, state: LMUState, matrices: Matrices) -> tuple[Tensor, Tensor, LMUState]:
        """h and u of all steps, as many as there are in whole chunks, and the state after them."""
        hidden, inputs, order = self.W_h.in_features, self.memory.inputs, self.memory.order
        e_h = x.new_zeros(inputs, hidden) if self.e_h is None else self.e_h.weight
        e_m = x.new_zeros(inputs, inputs * order) if self.e_m is None else self.e_m.weight
        bias = x.new_zeros(hidden) if self.W_x.bias is None else self.W_x.bias
        reads = reads_of(
            torch.cat([self.W_x.weight, self.e_x.weight]),
            torch.cat([bias, x.new_zeros(inputs)]),
            torch.cat([self.W_h.weight, e_h]),
            self.W_m.weight.unflatten(1, (inputs, order)),
            e_m.unflatten(1, (inputs, order)),
            self.memory.powers(CHUNK, matrices),
            matrices.bd,
        )
        errors = dict(state.errors)
        fire_h, fire_u = (_quantised(s, n, errors) for s, n in ((self.spike_h, "h"), (self.spike_u, "u")))
        h, u, last, m = in_chunks(x, state.h, state.m, reads, fire_h, fire_u)
        return h, u, LMUState(last, m, m.flatten(1), state.c, errors)

    def extra_repr(self) -> str:
        return f"cell={self.cell}, last={self.last}"


def _is_straight(quantiser: Diffused) -> bool:
    """Whether what it sends has the derivative one, and nothing to train."""
    return isinstance(quantiser.activation, nn.Identity) and quantiser.fineness_log is None


def _fired(quantiser: Diffused | None, name: str, signal: Tensor, errors: dict[str, Any]) -> Tensor:
    """What is sent of a signal; the quantiser's state in `errors` moves on."""
    sent, errors[name] = fired(quantiser, signal, errors[name])
    return sent


def _quantised(quantiser: Diffused | None, name: str, errors: dict[str, Any]) -> Callable[[Tensor], Tensor] | None:
    return None if quantiser is None else lambda signal: _fired(quantiser, name, signal, errors)
