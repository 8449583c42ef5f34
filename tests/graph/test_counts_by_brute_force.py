"""Every count against an oracle that visits each synapse (`brute_force`).

A model marks the tensors that enter its synapses with `nn.Identity` taps, or has them captured at its layers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import brute_force as oracle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from brute_force import Convolution, Dense, FromLeft, Transposed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from picojoule.cells import SpikingRNN
from picojoule.energy import QUANTITIES, count
from picojoule.graph import observe
from picojoule.kinds import Events, Kind, Values
from picojoule.layers import (
    AddTime,
    Bernoulli,
    Concatenate,
    MeanReadout,
    Repeat,
    Residual,
    SpikeCount,
    Timewise,
    pooling,
)
from picojoule.neurons import IAF, LIF


class Expect(NamedTuple):
    """One layer of the report: what entered which module, and what the layer does with it."""

    row: str
    layer: oracle.Layer
    tap: str
    quantum: float | None  # None: values
    most: int = 1


class Case(NamedTuple):
    model: Callable[[], nn.Module]
    input: Callable[[], Tensor]
    rows: list[Expect]
    inputs: Kind = Values()
    batch_dim: int = 0


def _entered(model: nn.Module, x: Tensor, names: list[str]) -> dict[str, list[Tensor]]:
    """What entered each module in one pass, call by call."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, arguments: found[name].append(arguments[0].detach().clone())

    hooks = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in found]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def _by_time(x: Tensor, batch: int, axes: int) -> np.ndarray:
    """`[B, ...]`, `[T*B, ...]` or `[T, B, ...]` as `[T, B, ...]`; `axes` belong to one call of the layer."""
    if x.dim() >= axes + 2 and x.shape[1] == batch:
        return x.double().numpy()
    return x.double().unflatten(0, (-1, batch)).numpy()


CHECKED = QUANTITIES[: QUANTITIES.index("outputs")]


def _row(counted: Any, name: str, quantity: str) -> tuple[float, float]:
    layer, kind = counted.layers.index(name), QUANTITIES.index(quantity)
    return counted.sums[kind, layer].item(), counted.squares[kind, layer].item()


def _check(case: Case) -> None:
    torch.manual_seed(0)
    model, x = case.model().eval(), case.input()
    samples = x.shape[case.batch_dim]
    entered = _entered(model, x, [row.tap for row in case.rows])
    observed = observe(model, x, case.inputs, batch_dim=case.batch_dim, strict=True)
    output, activity = observed(x)
    torch.testing.assert_close(output, model(x), rtol=0, atol=0)
    counted = count(activity)
    assert set(counted.layers) == {row.row for row in case.rows}
    for name in counted.layers:
        totals = np.zeros((samples, len(CHECKED)))
        for row in (r for r in case.rows if r.row == name):
            for tensor in entered[row.tap]:
                x = _by_time(tensor, samples, row.layer.axes)
                for b, o in enumerate(oracle.operations(row.layer, x, row.quantum)):
                    sent = x[:, b]
                    if row.quantum is None:
                        dense, entered_here = (o.dense, 0), (0, np.count_nonzero(sent), 0, sent.size)
                    else:
                        events = np.abs(sent).sum() / row.quantum
                        dense, entered_here = (0, o.dense * row.most), (events, 0, sent.size, 0)
                    totals[b] += (o.acs, o.graded_events, o.macs, *dense, o.dense, *entered_here)
        for q, quantity in enumerate(CHECKED):
            expected = totals[:, q].sum(), (totals[:, q] ** 2).sum()
            assert _row(counted, name, quantity) == expected, (name, quantity)
    assert counted.samples == samples and counted.sums.sum() > 0


# Single layers, with every setting that changes which synapses exist.

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@st.composite
def _windows(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(st.integers(1, 3))

    def tuples(low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
        return st.tuples(*[st.integers(low, high)] * dims)

    kernel, stride = draw(tuples(1, 3 if dims < 3 else 2)), draw(tuples(1, 3))
    dilation = draw(tuples(1, 2))
    padding = tuple(draw(st.integers(0, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True))
    size = tuple(
        max(draw(st.integers(1, 5 if dims < 3 else 3)), d * (k - 1) + 1 - 2 * p)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    groups = draw(st.sampled_from([1, 2]))
    return {
        "size": size,
        "channels": (groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))),
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "seed": draw(st.integers(0, 1000)),
    }


def _events(shape: tuple[int, ...], seed: int, most: int = 3) -> Tensor:
    return torch.randint(0, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def _check_layer(layer: nn.Module, described: oracle.Layer, x: Tensor, kind: Kind) -> None:
    quantum = kind.quantum if isinstance(kind, Events) else None
    found = oracle.operations(described, x.double().unsqueeze(0).numpy(), quantum)
    _, activity = observe(nn.Sequential(layer), x, kind)(x)
    (record,) = activity.synapses
    assert record.dense == found[0].dense
    assert record.acs.tolist() == [o.acs for o in found]
    assert record.graded_events.tolist() == [o.graded_events for o in found]
    assert record.macs.tolist() == [o.macs for o in found]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(_windows(), st.booleans())
def test_any_convolution(w, values):
    dims, (channels, out) = len(w["kernel"]), w["channels"]
    layer = CONVOLUTIONS[dims](channels, out, w["kernel"], w["stride"], w["padding"], w["dilation"], w["groups"])
    described = Convolution(out, w["kernel"], w["stride"], w["padding"], w["dilation"], w["groups"])
    x = _events((2, channels, *w["size"]), w["seed"])
    _check_layer(layer, described, x, Values() if values else Events(most=3))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(_windows(), st.booleans(), st.data())
def test_any_transposed_convolution(w, values, data):
    dims, (channels, out) = len(w["kernel"]), w["channels"]
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(w["stride"], w["dilation"], strict=True))
    described = Transposed(out, w["kernel"], w["stride"], w["padding"], w["dilation"], extra, w["groups"])
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            w["size"], w["stride"], w["padding"], w["dilation"], w["kernel"], extra, strict=True
        )
    ]
    if min(sizes) < 1:
        return
    layer = TRANSPOSED[dims](
        channels,
        out,
        w["kernel"],
        w["stride"],
        w["padding"],
        output_padding=extra,
        groups=w["groups"],
        dilation=w["dilation"],
    )
    x = _events((2, channels, *w["size"]), w["seed"])
    _check_layer(layer, described, x, Values() if values else Events(most=3))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [2, 3])
def test_padding_by_name(padding, kernel):
    # "same" puts the odd one of an even kernel behind: as a kernel of one tap more that starts later
    layer = nn.Conv1d(1, 2, kernel, padding=padding)
    x = _events((2, 1, 6), 3)
    _, activity = observe(nn.Sequential(layer), x, Events())(x)
    reached = {
        ("valid", 2): [1, 2, 2, 2, 2, 1],
        ("valid", 3): [1, 2, 3, 3, 2, 1],
        ("same", 2): [1, 2, 2, 2, 2, 2],
        ("same", 3): [2, 3, 3, 3, 3, 2],
    }[padding, kernel]
    expected = (x[:, 0] * torch.tensor(reached) * 2).sum(1)
    assert activity.synapses[0].acs.tolist() == expected.tolist()


def test_circular_padding_wraps_around():
    layer = nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular")
    x = _events((2, 1, 5), 3)
    _, activity = observe(nn.Sequential(layer), x, Events())(x)
    assert activity.synapses[0].acs.tolist() == (6 * x.sum((1, 2))).tolist()


def test_output_size_of_a_transposed_convolution():
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1)

        def forward(self, x, like):
            return self.up(x, output_size=like)

    class Odd(Up):
        def forward(self, x):
            return self.up(x, output_size=(9,))

    class Even(Up):
        def forward(self, x):
            return self.up(x, output_size=(10,))

    class AsInput(Up):
        def forward(self, x):
            return self.up(x, output_size=(2 * x.shape[-1],))

    x = _events((2, 2, 5), 1)
    for model, extra in ((Odd(), 0), (Even(), 1), (AsInput(), 1)):
        described = Transposed(3, (3,), (2,), (1,), (1,), (extra,))
        found = oracle.operations(described, x.double().unsqueeze(0).numpy(), 1.0)
        _, activity = observe(model, x, Events(most=3))(x)
        assert activity.synapses[0].acs.tolist() == [o.acs for o in found]


# Networks: the kinds in between decide what is counted.


class _Functional(nn.Module):
    """Functional calls, with arguments by position and by name."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Parameter(torch.randn(4, 2, 3, 3))
        self.up = nn.Parameter(torch.randn(4, 2, 2, 2))
        self.bias = nn.Parameter(torch.randn(4))
        self.dense = nn.Parameter(torch.randn(3, 2 * 5 * 5))
        self.a, self.b, self.c = nn.Identity(), nn.Identity(), nn.Identity()
        self.lif1, self.lif2 = LIF(0.9, 0.5), LIF(0.9, 0.3)

    def forward(self, x):
        x = self.a(x)
        x = F.conv2d(x, self.conv, self.bias, stride=2, padding=(1, 0))
        x = self.b(self.lif1(x.unsqueeze(0)).squeeze(0))
        x = F.conv_transpose2d(input=x, weight=self.up, stride=2, output_padding=1)
        x = self.lif2(x.unsqueeze(0)).squeeze(0)
        return F.linear(self.c(x.flatten(1)), weight=self.dense)


class _Products(nn.Module):
    """A parameter on the right of a matrix product, then one on the left, as operator, function and method."""

    def __init__(self):
        super().__init__()
        self.right = nn.Parameter(torch.randn(5, 4))
        self.left = nn.Parameter(torch.randn(6, 3))
        self.last = nn.Parameter(torch.randn(2, 6))
        self.a, self.b, self.c = nn.Identity(), nn.Identity(), nn.Identity()
        self.lif1, self.lif2 = LIF(0.9, 0.3), LIF(0.9, 0.3)

    def forward(self, x):  # [T, B, 3, 5]
        x = self.b(self.lif1(self.a(x) @ self.right))
        x = self.c(self.lif2(torch.matmul(self.left, x)))
        return self.last.matmul(x)


class _SharedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.out = nn.Linear(6, 6), nn.Linear(6, 2)
        self.lif = LIF(0.9, 0.2)

    def forward(self, x):
        x = self.lif(self.shared(x))
        return self.out(self.lif(self.shared(x)))


class _Tied(nn.Module):
    """One weight used by two functional calls is one layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.a, self.b, self.lif = nn.Identity(), nn.Identity(), LIF(0.9, 0.2)

    def forward(self, x):
        return F.linear(self.b(self.lif(F.linear(self.a(x), self.weight))), self.weight.t())


class _Reuse(nn.Module):
    """One tensor of events feeds several consumers: each synapse counts."""

    def __init__(self):
        super().__init__()
        self.lif = LIF(0.9, 0.3)
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = self.lif(x)
        return self.a(x), self.b(x * 0.25), x


class _Ternary(nn.Module):
    def __init__(self):
        super().__init__()
        self.tap, self.fc, self.tap2, self.fc2 = nn.Identity(), nn.Linear(6, 3), nn.Identity(), nn.Linear(3, 2)

    def forward(self, x):
        x = self.fc(self.tap(torch.sign(x)))
        return self.fc2(self.tap2(-0.5 * torch.sign(x)))


class _Chunks(nn.Module):
    def __init__(self):
        super().__init__()
        self.lif, self.a, self.b, self.c = LIF(0.9, 0.3), nn.Linear(3, 2), nn.Linear(3, 4), nn.Linear(2, 2)

    def forward(self, x):
        left, right = self.lif(x).chunk(2, -1)
        return self.a(left), self.b(right), self.c(right[..., 1:])


def _wide(module: nn.Module, gain: float = 3.0) -> nn.Module:
    """Larger weights, so that deep neurons fire."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(gain)
    return module


def _cnn(pool: str) -> nn.Module:
    return _wide(
        nn.Sequential(
            AddTime(),
            Timewise(nn.Conv2d(2, 3, 3, padding=1)),
            Repeat(3),
            LIF(0.9, 0.5, v_reset=None),
            pooling(pool, 2),
            Timewise(nn.Conv2d(3, 4, 3, padding=1, bias=False)),
            LIF(0.9, 0.3),
            nn.Flatten(2),
            nn.Linear(36, 3),
            MeanReadout(),
        )
    )


_SQUARE = Convolution(3, (3, 3), (1, 1), (1, 1), (1, 1))
_SECOND = Convolution(4, (3, 3), (1, 1), (1, 1), (1, 1))


def _uniform(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _sparse(*shape: int) -> Callable[[], Tensor]:
    """ReLU-like values: half of them zero."""
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(2)).relu()


def _unit(*shape: int) -> Callable[[], Tensor]:
    return lambda: _events(shape, 5, most=1)


CASES = {
    "cnn with max pool": Case(
        lambda: _cnn("max"),
        _sparse(3, 2, 6, 6),
        [
            Expect("1", _SQUARE, "1.layer", None),
            Expect("5", _SECOND, "5.layer", 1.0),
            Expect("8", Dense(3), "8", 1.0),
        ],
    ),
    "cnn with average pool": Case(
        lambda: _cnn("avg"),
        _sparse(3, 2, 6, 6),
        [
            Expect("1", _SQUARE, "1.layer", None),
            Expect("5", _SECOND, "5.layer", 0.25, most=4),
            Expect("8", Dense(3), "8", 1.0),
        ],
    ),
    "image repeated: the first layer counts at every step": Case(
        lambda: nn.Sequential(AddTime(), Repeat(4), Timewise(nn.Conv2d(2, 3, 3, padding=1)), LIF(), SpikeCount()),
        _sparse(2, 2, 4, 4),
        [Expect("2", _SQUARE, "2.layer", None)],
    ),
    "current repeated: the first layer counts once": Case(
        lambda: nn.Sequential(AddTime(), Timewise(nn.Conv2d(2, 3, 3, padding=1)), Repeat(4), LIF(), SpikeCount()),
        _sparse(2, 2, 4, 4),
        [Expect("1", _SQUARE, "1.layer", None)],
    ),
    "bernoulli code": Case(
        lambda: nn.Sequential(Bernoulli(5), nn.Linear(6, 4), LIF(), nn.Linear(4, 2), MeanReadout()),
        _uniform(3, 6),
        [Expect("1", Dense(4), "1", 1.0), Expect("3", Dense(2), "3", 1.0)],
    ),
    "functional calls": Case(
        _Functional,
        _sparse(3, 2, 4, 6),
        [
            Expect("conv", Convolution(4, (3, 3), (2, 2), (1, 0), (1, 1)), "a", None),
            Expect("up", Transposed(2, (2, 2), (2, 2), (0, 0), (1, 1), (1, 1)), "b", 1.0),
            Expect("dense", Dense(3), "c", 1.0),
        ],
    ),
    "matrix products": Case(
        _Products,
        _sparse(2, 3, 3, 5),
        [
            Expect("right", Dense(4), "a", None),
            Expect("left", FromLeft(6), "b", 1.0),
            Expect("last", FromLeft(2), "c", 1.0),
        ],
        batch_dim=1,
    ),
    "shared module": Case(
        lambda: _wide(_SharedTwice()),
        _unit(4, 3, 6),
        [Expect("shared", Dense(6), "shared", 1.0), Expect("out", Dense(2), "out", 1.0)],
        inputs=Events(most=1),
        batch_dim=1,
    ),
    "tied weight": Case(
        _Tied,
        _unit(4, 3, 4),
        [Expect("weight", Dense(4), "a", 1.0), Expect("weight", Dense(4), "b", 1.0)],
        inputs=Events(most=1),
        batch_dim=1,
    ),
    "several consumers": Case(
        _Reuse,
        _uniform(4, 3, 4),
        [Expect("a", Dense(3), "a", 1.0), Expect("b", Dense(5), "b", 0.25)],
        batch_dim=1,
    ),
    "residual of equal quanta": Case(
        lambda: _wide(
            nn.Sequential(LIF(0.9, 0.5), Residual(nn.Sequential(nn.Linear(5, 5), LIF(0.9, 0.2))), nn.Linear(5, 2))
        ),
        _uniform(4, 3, 5),
        [Expect("1.body.0", Dense(5), "1.body.0", 1.0), Expect("2", Dense(2), "2", 1.0, most=2)],
        batch_dim=1,
    ),
    "residual of currents is values": Case(
        lambda: nn.Sequential(LIF(0.9, 0.5), Residual(nn.Linear(5, 5)), nn.Linear(5, 2)),
        _uniform(4, 3, 5),
        [Expect("1.body", Dense(5), "1.body", 1.0), Expect("2", Dense(2), "2", None)],
        batch_dim=1,
    ),
    "concatenation": Case(
        lambda: _wide(
            nn.Sequential(
                LIF(0.9, 0.5),
                Concatenate(nn.Identity(), nn.Sequential(nn.Linear(5, 3), LIF(0.9, 0.1))),
                nn.Linear(8, 2),
            )
        ),
        _uniform(4, 3, 5),
        [Expect("1.branches.1.0", Dense(3), "1.branches.1.0", 1.0), Expect("2", Dense(2), "2", 1.0)],
        batch_dim=1,
    ),
    "many events per step": Case(
        lambda: _wide(nn.Sequential(IAF(0.3, max_events=5), nn.Linear(5, 4), IAF(max_events=3), nn.Linear(4, 2))),
        _uniform(4, 3, 5),
        [Expect("1", Dense(4), "1", 1.0, most=5), Expect("3", Dense(2), "3", 1.0, most=3)],
        batch_dim=1,
    ),
    "ternary events": Case(
        _Ternary,
        lambda: torch.randint(-1, 2, (4, 6), generator=torch.Generator().manual_seed(1)).float(),
        [Expect("fc", Dense(3), "tap", 1.0), Expect("fc2", Dense(2), "tap2", 0.5)],
    ),
    "chunks": Case(
        _Chunks,
        _uniform(4, 3, 6),
        [Expect("a", Dense(2), "a", 1.0), Expect("b", Dense(4), "b", 1.0), Expect("c", Dense(2), "c", 1.0)],
        batch_dim=1,
    ),
    "recurrent cell": Case(
        lambda: nn.Sequential(AddTime(), Repeat(5), _wide(SpikingRNN(6, 4), 2.0), nn.Linear(4, 2)),
        _sparse(3, 6),
        [
            Expect("2.input", Dense(4), "2.input", None),
            Expect("2.recurrent", Dense(4), "2.recurrent", 1.0),
            Expect("3", Dense(2), "3", 1.0),
        ],
    ),
    "declared events of a quantum": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)),
        lambda: 0.5 * _events((3, 2, 4, 4), 1, most=2),
        [Expect("0", _SQUARE, "0", 0.5, most=2)],
        inputs=Events(0.5, most=2),
    ),
    "declared signed events": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)),
        lambda: _events((3, 2, 4, 4), 1, most=4) - 2,
        [Expect("0", _SQUARE, "0", 1.0, most=2)],
        inputs=Events(1.0, signed=True, most=2),
    ),
    "analog network": Case(
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(9, 2)),
        _sparse(3, 2, 6),
        [Expect("0", Convolution(3, (3,), (1,), (1,), (1,)), "0", None), Expect("4", Dense(2), "4", None)],
    ),
    "time folded by hand": Case(
        lambda: nn.Sequential(
            LIF(0.9, 0.5), nn.Flatten(0, 1), nn.Conv2d(2, 3, 3, padding=1), nn.Unflatten(0, (4, -1)), LIF(0.9, 0.1)
        ),
        _uniform(4, 3, 2, 4, 4),
        [Expect("2", _SQUARE, "2", 1.0)],
        batch_dim=1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_network(name):
    _check(CASES[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_counts_in_other_precisions(dtype, pool):
    """The model's own numbers in that precision, counted exactly."""
    _check(
        Case(
            lambda: _cnn(pool).to(dtype),
            lambda: _sparse(3, 2, 6, 6)().to(dtype),
            [
                Expect("1", _SQUARE, "1.layer", None),
                Expect("5", _SECOND, "5.layer", 1.0 if pool == "max" else 0.25, most=1 if pool == "max" else 4),
                Expect("8", Dense(3), "8", 1.0),
            ],
        )
    )


@pytest.mark.parametrize("cell_dtype", [torch.float64, torch.bfloat16])
def test_a_cell_in_other_precisions(cell_dtype):
    _check(
        CASES["recurrent cell"]._replace(
            model=lambda: CASES["recurrent cell"].model().to(cell_dtype),
            input=lambda: CASES["recurrent cell"].input().to(cell_dtype),
        )
    )


# Attention: products of two activations.


class _Attention(nn.Module):
    def __init__(self, left: nn.Module, right: nn.Module, product: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.q, self.k, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4), left, right
        self.tap_left, self.tap_right, self.product = nn.Identity(), nn.Identity(), product

    def forward(self, x):  # [T, B, N, 4]
        q, k = self.tap_left(self.left(self.q(x))), self.tap_right(self.right(self.k(x)))
        return self.product(q, k.transpose(-2, -1))


@pytest.mark.parametrize("product", [torch.matmul, lambda a, b: a @ b, lambda a, b: a.matmul(b)])
@pytest.mark.parametrize(
    "left, right, events",
    [
        (lambda: LIF(0.9, 0.2), lambda: LIF(0.9, 0.2), (True, True)),
        (lambda: LIF(0.9, 0.2), nn.ReLU, (True, False)),
        (nn.ReLU, lambda: LIF(0.9, 0.2), (False, True)),
        (nn.ReLU, nn.ReLU, (False, False)),
    ],
)
def test_attention(left, right, events, product):
    torch.manual_seed(3)
    model = _Attention(left(), right(), product)
    x = torch.randn(3, 2, 5, 4)
    entered = _entered(model, x, ["tap_left", "tap_right"])
    ((a,), (b,)) = entered["tap_left"], entered["tap_right"]
    expected = oracle.product_operations(a.numpy(), b.transpose(-2, -1).numpy(), events)
    output, activity = observe(model, x, batch_dim=1, strict=True)(x)
    assert torch.equal(output, model(x))
    (record,) = [r for r in activity.synapses if r.site.operation == "matmul of activations"]
    assert record.acs.tolist() == [o.acs for o in expected] and sum(o.acs + o.macs for o in expected) > 0
    assert record.graded_events.tolist() == [o.graded_events for o in expected]
    assert record.macs.tolist() == [o.macs for o in expected]
    assert record.dense == expected[0].dense


def test_a_product_of_an_activation_with_itself():
    class Gram(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = LIF(0.9, 0.5)

        def forward(self, x):
            x = self.lif(x)
            return x @ x

    x = torch.rand(2, 3, 4, 4)
    events = LIF(0.9, 0.5)(x).numpy()
    _, activity = observe(Gram(), x, batch_dim=1)(x)
    expected = oracle.product_operations(events, events, (True, True))
    assert activity.synapses[0].acs.tolist() == [o.acs for o in expected]
