"""The Legendre memory: a window of the past in a few numbers, and nothing to train."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Synapse, is_hooked
from picojoule.cells.signals import check_sequence
from picojoule.errors import BadInput
from picojoule.kernels.lmu import memory
from picojoule.kernels.lmu.matrices import check_memory, discretised, shortest_window
from picojoule.kinds import Kind, Values
from picojoule.layers import BlockLowRank
from picojoule.layers.low_rank import LEAF, fits

SCANNED = 8
"""Steps per chunk of a scan (our choice, see docs/lmu.md)."""

Map = Callable[[Tensor], Tensor]


class Matrices(NamedTuple):
    """Ad `[q, q]` and Bd `[q, 1]`."""

    ad: Tensor
    bd: Tensor


class LegendreMemory(Cell):
    """`m_t = Ad m_{t-1} + Bd u_t` for each of `inputs` signals: u `[T, B, D]` in, the states `[T, B, D * q]` out.

    Arguments:
        order: q, the Legendre polynomials that describe the window.
        theta: length of the window in steps, at least 1.
        inputs: D, the signals that are remembered, each by a memory of its own.
        discretisation: "zoh" (input held over the step) or "euler" (stable for long windows only).
        learn_theta: make theta, one for all signals, trainable (as its logarithm). It stays at or above the shortest
            window that can be run; at that bound its gradient passes as if there were none.
        low_rank: keep Ad as blocks of low rank (`BlockLowRank`): fewer operations, the same memory within 1e-6, for
            orders of 16 times a power of two.
        last: give only the last state, `[1, B, D * q]`: one product with the impulse response.

    Ad and Bd are parameters that are not trained, made in float64; a state dict with those of another window or
    discretisation is refused. Raises BadInput for a memory that explodes, and for a window shorter than a step.
    Source: Voelker, Kajic and Eliasmith 2019, Legendre Memory Units, NeurIPS 32.
    """

    emits: Kind = Values()
    analog_by_step = True

    def __init__(
        self,
        order: int,
        theta: float,
        inputs: int = 1,
        *,
        discretisation: str = "zoh",
        learn_theta: bool = False,
        low_rank: bool = False,
        last: bool = False,
    ):
        super().__init__()
        check_memory(order, theta, discretisation)
        if inputs < 1:
            raise BadInput(f"expected at least one signal to remember, got inputs={inputs}")
        if learn_theta and low_rank:
            raise BadInput("expected learn_theta or low_rank, not both: blocks of low rank are made for one theta")
        if low_rank and not fits(order):
            raise BadInput(
                f"expected an order Q of {LEAF} times a power of two, got {order}, for low_rank (--low-rank); choose "
                "such an order, as 32 or 256, or leave low_rank out"
            )
        self.order, self.inputs, self.last, self.discretisation = order, inputs, last, discretisation
        self._theta = float(theta)
        self._shortest = math.log(shortest_window(order, discretisation)) if learn_theta else 0.0
        self.theta_log = nn.Parameter(torch.tensor(math.log(theta))) if learn_theta else None
        ad, bd = discretised(order, theta, discretisation)
        self.Ad = BlockLowRank(ad) if low_rank else nn.Linear(order, order, bias=False)
        self.Bd = nn.Linear(1, order, bias=False)
        with torch.no_grad():
            self.Bd.weight.copy_(bd)
            if isinstance(self.Ad, nn.Linear):
                self.Ad.weight.copy_(ad)
        self.Ad.requires_grad_(False)
        self.Bd.requires_grad_(False)
        self._kept: dict[tuple[object, ...], Tensor] = {}
        self._kept_of: list[Any] = []

    @property
    def theta(self) -> Tensor | float:
        """The length of the window in steps."""
        if self.theta_log is None:
            return self._theta
        log = self.theta_log
        return torch.exp(log + (log.clamp(min=self._shortest) - log).detach())

    def synapses(self) -> tuple[Synapse, ...]:
        return *self.transition_synapses(), Synapse("Bd", self.Bd, None)

    def transition_synapses(self, before: str = "") -> tuple[Synapse, ...]:
        """Those of Ad, which is one layer or several; `before` goes in front of their names."""
        if isinstance(self.Ad, nn.Linear):
            return (Synapse(f"{before}Ad", self.Ad, Values()),)
        return tuple(Synapse(f"{before}Ad.{name}", layer, Values()) for name, layer in self.Ad.parts())

    def transition_operands(self, held: Tensor, before: str = "") -> dict[str, Tensor]:
        """What entered them where the memory held `[T, B, D, q]`."""
        if isinstance(self.Ad, nn.Linear):
            return {f"{before}Ad": held}
        return {f"{before}Ad.{name}": x for name, x in self.Ad.operands(held).items()}

    def initial_state(self, x: Tensor) -> Tensor:
        """An empty memory `[B, D, q]`."""
        return x.new_zeros(x.shape[1], self.inputs, self.order)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        check_sequence(x, self.inputs)
        if self.last and not is_hooked(self):
            after = self._last(x, state)
            return after.flatten(1).unsqueeze(0), after
        states = self.states(x, state)
        return (states[-1:] if self.last else states).flatten(2), states[-1]

    def forward_observed(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        states = self.states(x, state)
        held = torch.cat([state.unsqueeze(0), states[:-1]])
        entered = {"Bd": x.unsqueeze(-1), **self.transition_operands(held)}
        return (states[-1:] if self.last else states).flatten(2), states[-1], entered

    def states(self, u: Tensor, state: Tensor) -> Tensor:
        """All states `[T, B, D, q]`, in the form that is fastest: step by step if something watches the layers."""
        if is_hooked(self):
            step, states = self.step_function(), [state]
            for now in u.unbind(0):
                states.append(step(states[-1], now))
            return torch.stack(states[1:])
        ad, bd = matrices = self.matrices()
        form = memory.form_for(len(u), u.shape[1], not bool(state.any()))
        if form == "fft":
            return memory.by_fft(u, ad, bd)
        if form == "loop":
            return memory.by_loop(u, state, ad, bd)
        return memory.by_scan(u, state, self.powers(SCANNED, matrices), bd)

    def step_function(self, matrices: Matrices | None = None) -> Callable[[Tensor, Tensor], Tensor]:
        """The pure step from a state `[B, D, q]` and inputs `[B, D]` to the next state.

        `matrices` are those of `matrices()`, which need not be made again where theta is trained.
        """
        maps: tuple[Map, Map] = (self.Ad, self.Bd)
        if self.theta_log is not None:
            ad, bd = self.matrices() if matrices is None else matrices
            maps = partial(F.linear, weight=ad), partial(F.linear, weight=bd)
        return lambda m, u: maps[0](m) + maps[1](u.unsqueeze(-1))

    def matrices(self) -> Matrices:
        """Ad and Bd, differentiable in theta where it is trained; then this takes a matrix exponential."""
        like = self.Bd.weight
        if self.theta_log is not None:
            theta = torch.as_tensor(self.theta).cpu().double()
            return Matrices(*(m.to(like) for m in discretised(self.order, theta, self.discretisation)))
        if isinstance(self.Ad, nn.Linear):
            return Matrices(self.Ad.weight, like)
        return Matrices(self._kept_for("dense", 0, self.Ad.dense), like)

    def powers(self, most: int, matrices: Matrices) -> Tensor:
        """The powers of Ad from 0 to `most`, `[most + 1, q, q]`; `matrices` are those of `matrices()`."""
        return self._kept_for("powers", most, lambda: memory.powers_of(matrices.ad, most))

    def _last(self, u: Tensor, state: Tensor) -> Tensor:
        steps, (ad, bd) = len(u), self.matrices()
        response = self._kept_for("response", steps, lambda: memory.impulse_response(ad, bd, steps))
        decay = self._kept_for("decay", steps, lambda: torch.linalg.matrix_power(ad, steps))
        return memory.last_state(u, state, response, decay)

    def _kept_for(self, what: str, steps: int, make: Callable[[], Tensor]) -> Tensor:
        """What follows from the parameters: made anew once one of them has changed, or each time if one is trained."""
        own = list(self.parameters())
        if any(p.requires_grad for p in own):
            return make()
        now = [(p.data_ptr(), p.dtype, p.device, 0 if p.is_inference() else p._version) for p in own]
        if now != self._kept_of:
            self._kept, self._kept_of = {}, now
        if (what, steps) not in self._kept:
            here = own[0].device.type  # what is kept is exact, and training may save it for its backward pass
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(here, enabled=False):
                self._kept[what, steps] = make()
        return self._kept[what, steps]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *how: Any) -> None:
        """As every module does; raises BadInput for matrices that are not those of `theta`, which would not follow."""
        own, given = self.Bd.weight, state_dict.get(f"{prefix}Bd.weight")
        if given is not None and given.shape == own.shape and f"{prefix}theta_log" not in state_dict:
            rounding = 4 * max(torch.finfo(given.dtype).eps, torch.finfo(own.dtype).eps)
            if (given.to(own) - own).abs().max() > rounding * own.abs().max():
                raise BadInput(
                    f"expected weights of a memory over theta = {self._theta:g} steps under {self.discretisation}, got "
                    "those of another window or discretisation; give the theta (--theta) that they were trained with"
                )
        super()._load_from_state_dict(state_dict, prefix, *how)

    def extra_repr(self) -> str:
        theta = float(torch.as_tensor(self.theta).detach())
        return f"order={self.order}, theta={theta:.4g}, inputs={self.inputs}, discretisation={self.discretisation}"


def feed_forward_lmu(features: int, hidden: int, memory: LegendreMemory) -> nn.Sequential:
    """An LMU without recurrent hidden units: `h_t = tanh(W_m m_t)`, `u_t = e_x x_t`; `[T, B, F]` in, `[T, B, H]` out.

    With a memory that gives only its last state it is `[1, B, H]`.
    """
    e_x = nn.Linear(features, memory.inputs, bias=False)
    nn.init.ones_(e_x.weight)
    w_m = nn.Linear(memory.inputs * memory.order, hidden)
    nn.init.xavier_normal_(w_m.weight)
    return nn.Sequential(e_x, memory, w_m, nn.Tanh())
