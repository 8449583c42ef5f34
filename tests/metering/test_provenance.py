"""Where events come from: every way of writing a spike, and everything that looks like one and is none.

Each transform makes what enters one linear layer out of values x; the expected numbers are brute force on what
enters it in an unmetered pass.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from metered import Row, Through, counted, expected, metered, rows
from torch import Tensor, nn

from picojoule.metering import meter

Transform = Callable[[Tensor], Tensor]


class Spike(torch.autograd.Function):
    """A spike as most libraries write it: a comparison and a cast, with a surrogate gradient."""

    @staticmethod
    def forward(ctx, v: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(v)
        return (v > 0).to(v)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:  # noqa: ANN001
        (v,) = ctx.saved_tensors
        return grads[0] / (1 + v.abs()) ** 2


def spike(v: Tensor) -> Tensor:
    return Spike.apply(v)  # pyright: ignore[reportReturnType]


def _index_put(x: Tensor) -> Tensor:
    z = torch.zeros_like(x)
    z[x > 0.3] = 1.0
    return z


def _scatter_one_hot(x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 1.0)


def _scatter_tensor(x: Tensor) -> Tensor:
    index = x.topk(2, dim=1).indices
    return torch.zeros_like(x).scatter(1, index, torch.ones_like(index, dtype=x.dtype))


def _buffer_items(x: Tensor) -> Tensor:
    buffer = torch.zeros_like(x)
    for i in range(x.shape[1]):
        buffer[:, i] = (x[:, i] > 0).float()
    return buffer


def _if_neuron(x: Tensor) -> Tensor:
    v = torch.zeros_like(x)
    z = torch.zeros_like(x)
    for _ in range(4):
        v = v + x
        z = spike(v - 0.7)
        v = v - z * 0.7
    return z


def _multi(x: Tensor) -> Tensor:
    return (x > 0).float() * torch.div(x, 0.25, rounding_mode="trunc")


BIRTHS: dict[str, tuple[Transform, float]] = {
    "gt": (lambda x: (x > 0.2).float(), 1),
    "ge": (lambda x: (x >= 0.2).to(x), 1),
    "lt": (lambda x: x.lt(0.2).type_as(x), 1),
    "le": (lambda x: (x <= 0.2) * 1.0, 1),
    "eq": (lambda x: (x.round() == 0).float(), 1),
    "ne": (lambda x: (x.round() != 0).float(), 1),
    "torch.gt": (lambda x: torch.gt(x, 0).to(torch.float32), 1),
    "gt in place": (lambda x: x.clone().gt_(0.2), 1),
    "gt of two": (lambda x: (x > x.mean(1, keepdim=True)).float(), 1),
    "isclose": (lambda x: torch.isclose(x, x.round(), atol=0.2).float(), 1),
    "logical_and": (lambda x: ((x > -0.5) & (x < 0.5)).float(), 1),
    "logical_or": (lambda x: ((x < -0.5) | (x > 0.5)).float(), 1),
    "logical_not": (lambda x: (~(x > 0)).float(), 1),
    "logical_xor": (lambda x: torch.logical_xor(x > 0, x > 0.5).float(), 1),
    "heaviside": (lambda x: torch.heaviside(x - 0.3, torch.zeros(())), 1),
    "heaviside tensor": (lambda x: torch.heaviside(x - 0.3, torch.ones(1)), 1),
    "sign": (torch.sign, 1),
    "sgn": (torch.sgn, 1),
    "relu(sign)": (lambda x: torch.relu(torch.sign(x)), 1),
    "round": (lambda x: torch.round(2 * x), 1),
    "floor": (lambda x: torch.floor(x / 0.4), 1),
    "ceil": (torch.ceil, 1),
    "trunc": (torch.trunc, 1),
    "floor of quotient, clamped": (lambda x: torch.clamp(torch.floor(x / 0.4), 0, 3), 1),
    "floor_divide": (lambda x: x // 0.4, 1),
    "div floor": (lambda x: torch.div(x, 0.4, rounding_mode="floor"), 1),
    "div trunc": (lambda x: torch.div(x, 0.4, rounding_mode="trunc"), 1),
    "multi spike": (_multi, 1),
    "cast to int": (lambda x: (3 * x).int().float(), 1),
    "cast to long": (lambda x: (3 * x).long().to(x), 1),
    "cast to bool": (lambda x: torch.relu(x).bool().float(), 1),
    "bernoulli": (lambda x: torch.bernoulli(x.sigmoid()), 1),
    "bernoulli p": (lambda x: torch.empty_like(x).bernoulli_(0.4), 1),
    "rand <": (lambda x: (torch.rand_like(x) < x.sigmoid()).float(), 1),
    "poisson": (lambda x: torch.poisson(x.exp()), 1),
    "argmax one-hot": (lambda x: F.one_hot(x.argmax(1), 6).float(), 1),
    "scatter one-hot": (_scatter_one_hot, 1),
    "scatter tensor": (_scatter_tensor, 1),
    "index_put": (_index_put, 1),
    "masked_fill": (lambda x: torch.zeros_like(x).masked_fill(x > 0.3, 1.0), 1),
    "masked_fill 2": (lambda x: torch.ones_like(x).masked_fill(x <= 0.3, 0.0), 1),
    "where scalars": (lambda x: torch.where(x > 0.3, 1.0, 0.0), 1),
    "where tensors": (lambda x: torch.where(x > 0.3, torch.ones_like(x), torch.zeros_like(x)), 1),
    "where minus": (lambda x: torch.where(x > 0.3, torch.zeros_like(x), -torch.ones_like(x)), 1),
    "autograd.Function": (spike, 1),
    "1 - s": (lambda x: 1 - spike(x), 1),
    "1 - (x <= 0)": (lambda x: 1 - (x <= 0).float(), 1),
    "(sign + 1) / 2": (lambda x: (torch.sign(x) + 1) / 2, 0.5),
    "(sign + 1) * 0.5": (lambda x: (x.sign() + 1).mul(0.5), 0.5),
    "item assignment": (_buffer_items, 1),
    "IF neuron": (_if_neuron, 1),
    "threshold_(s)": (lambda x: F.threshold(spike(x), 0.5, 0.0), 1),
    "s ** 2": (lambda x: spike(x) ** 2, 1),
    "s.square": (lambda x: spike(x).square(), 1),
    "s.abs": (lambda x: torch.sign(x).abs(), 1),
    "-s": (lambda x: -spike(x), 1),
    "s.sqrt": (lambda x: spike(x).sqrt(), 1),
    "s1 * s2": (lambda x: spike(x) * spike(x + 0.5), 1),
    "s1 + s2": (lambda x: spike(x) + spike(x - 0.5), 1),
    "s1 - s2": (lambda x: spike(x) - spike(-x), 1),
    "s1 or s2": (lambda x: torch.maximum(spike(x), spike(x - 0.5)), 1),
    "s1 + s2 - s1 s2": (lambda x: spike(x) + spike(x.flip(1)) - spike(x) * spike(x.flip(1)), 1),
    "sum of a list": (lambda x: torch.stack([spike(x - t / 4) for t in range(4)]).sum(0), 1),
    "in-place sum": (lambda x: sum((spike(x - t / 4) for t in range(3)), torch.zeros_like(x)), 1),
    "cumsum": (lambda x: spike(x).cumsum(1), 1),
    "unique": (lambda x: spike(x)[torch.arange(len(x))], 1),
    "double": (lambda x: spike(x.double()).float(), 1),
    "half": (lambda x: spike(x.half()).float(), 1),
    "contiguous view": (lambda x: spike(x).t().contiguous().t(), 1),
    "flip": (lambda x: spike(x).flip(1), 1),
    "roll": (lambda x: spike(x).roll(1, 1), 1),
    "sort": (lambda x: spike(x).sort(1).values, 1),
    "gather": (lambda x: spike(x).gather(1, x.argsort(1)), 1),
    "delay": (lambda x: F.pad(spike(x), (1, 0))[:, :-1], 1),
    "tril": (lambda x: spike(x).tril(), 1),
    "where mask": (lambda x: torch.where(torch.rand_like(x) < 0.5, spike(x), torch.zeros_like(x)), 1),
    "masked out": (lambda x: spike(x).masked_fill(x < 0.5, 0.0), 1),
    "dropout eval": (lambda x: F.dropout(spike(x), 0.5, False), 1),
    "dropout train": (lambda x: F.dropout(spike(x), 0.5, True), 2),
    "dropout 0.2": (lambda x: F.dropout(spike(x), 0.2, True), 1.25),
    "mask from bernoulli": (lambda x: spike(x) * torch.bernoulli(torch.full_like(x, 0.5)), 1),
    "s * 0.5": (lambda x: spike(x) * 0.5, 0.5),
    "s / 4": (lambda x: spike(x) / 4, 0.25),
    "-0.3 s": (lambda x: spike(x) * -0.3, 0.3),
    "where 0.7": (lambda x: torch.where(x > 0, 0.7, 0.0), 0.7),
    "s * tensor(0.7)": (lambda x: spike(x) * torch.tensor(0.7), 0.7),
    "0.5 s + 0.5 s": (lambda x: 0.5 * spike(x) + 0.5 * spike(x - 0.5), 0.5),
    "add alpha": (lambda x: torch.add(spike(x), spike(x - 0.5), alpha=1), 1),
    "sub alpha": (lambda x: torch.sub(spike(x), spike(x - 0.5), alpha=-1), 1),
    "cat": (lambda x: torch.cat([spike(x[:, :3]), spike(x[:, 3:])], 1), 1),
    "cat with zeros": (lambda x: torch.cat([spike(x[:, :3]), torch.zeros(len(x), 3)], 1), 1),
    "stack": (lambda x: torch.stack([spike(x), spike(-x)], 1)[:, 0], 1),
    "expand": (lambda x: spike(x.mean(1, keepdim=True)).expand(-1, 6), 1),
    "repeat": (lambda x: spike(x[:, :3]).repeat(1, 2), 1),
    "unbind": (lambda x: spike(torch.stack([x, -x])).unbind(0)[1], 1),
    "split": (lambda x: torch.cat(spike(x).split(2, 1), 1), 1),
    "mean of two": (lambda x: torch.stack([spike(x), spike(x - 0.5)]).mean(0), 0.5),
    "stochastic rounding": (lambda x: torch.floor(2 * x + torch.rand_like(x)), 1),
    "histogram": (lambda x: torch.bucketize(x, torch.tensor([0.0, 0.5, 1.0])).float(), 1),
    "copy_": (lambda x: torch.empty_like(x).copy_(spike(x)), 1),
    "out=": (lambda x: torch.mul(spike(x), 1.0, out=torch.empty_like(x)), 1),
    "out= of gt": (lambda x: torch.gt(x, 0, out=torch.empty_like(x, dtype=torch.bool)).float(), 1),
    "delta modulation": (lambda x: F.pad(((x[:, 1:] - x[:, :-1]).abs() > 0.3).float(), (1, 0)), 1),
    "delta of steps": (lambda x: ((x - x.roll(1, 1)) > 0.3).float(), 1),
    "delta of transposes": (lambda x: (x[:, :4] - x[:, :4].t() > 0.3).float().repeat(1, 2)[:, :6], 1),
    "delta of halves": (lambda x: (x[:, :3] - x[:, 3:] > 0.1).float().repeat(1, 2), 1),
    "pairs": (lambda x: (x[:, :, None] - x[:, None, :] > 1).any(2).float(), 1),
    "delta of an expanded mean": (lambda x: (x[:, :1].expand(-1, 6) - x > 0.1).float(), 1),
    "decay": (lambda x: (0.5 ** x.abs() > 0.7).float(), 1),
    "decay by a tensor": (lambda x: (torch.full((6,), 0.5) ** x.abs() > 0.7).float(), 1),
    "threshold of a norm": (lambda x: (F.normalize(x, dim=1) > 0.3).float(), 1),
    "difference of two spikes, then a threshold": (lambda x: (spike(x[:, :3]) - spike(x[:, 3:])).repeat(1, 2), 1),
    "scatter add": (lambda x: torch.zeros_like(x).scatter_add(1, x.argsort(1) % 3, spike(x)), 1),
    "scatter reduce": (lambda x: spike(x).scatter_reduce(1, x.argsort(1) % 3, spike(-x), "sum"), 1),
    "index add": (lambda x: torch.zeros(4, 6).index_add(0, x[:, 0].argsort() % 3, spike(x)), 1),
    "index fill": (lambda x: torch.zeros(6, 4).index_fill(0, x[0].topk(2).indices, 1.0).t(), 1),
    "sign of scaled spikes": (lambda x: torch.sign(spike(x) * nn.Parameter(torch.tensor([-1.0, 1, -1, 1, 1, -1]))), 1),
    "minimum of all": (lambda x: torch.aminmax(spike(x), dim=1).max[:, None].expand(-1, 6), 1),
    "zero_ then put": (lambda x: x.clone().zero_().masked_fill_(x > 0, 1.0), 1),
}

STRAIGHT_THROUGH: dict[str, Transform] = {
    "z - s.detach() + s": lambda x: (x > 0).float() - x.sigmoid().detach() + x.sigmoid(),
    "s + (z - s).detach()": lambda x: x.sigmoid() + ((x > 0).float() - x.sigmoid()).detach(),
    "(z - s).detach() + s": lambda x: ((x > 0).float() - (s := x.sigmoid())).detach() + s,
    "z.detach() + s - s.detach()": lambda x: (x > 0).float().detach() + (s := (4 * x).sigmoid()) - s.detach(),
    "rounded": lambda x: x + (x.round() - x).detach(),
    "rounded, clamped": lambda x: (c := x.clamp(0, 3)) + (c.round() - c).detach(),
    "in place": lambda x: ((x > 0).float() - x.tanh().detach()).add_(x.tanh()),
    "hard tanh window": lambda x: (s := F.hardtanh(x)) + (torch.sign(x) - s).detach(),
    "soft sign": lambda x: (s := x / (1 + x.abs())) + ((x > 0).float() - s).detach(),
    "sigmoid of a scaled membrane": lambda x: (s := torch.sigmoid(5.0 * (x - 0.2))) + ((x > 0.2).float() - s).detach(),
    "power": lambda x: (s := x.clamp(-1, 1) ** 3) + ((x > 0).float() - s).detach(),
    "triangle": lambda x: (s := torch.relu(1 - x.abs())) + ((x > 0).float() - s).detach(),
}

VALUES: dict[str, tuple[Transform, str]] = {
    "x": (lambda x: x, ""),
    "relu": (torch.relu, ""),
    "membrane after soft reset": (lambda x: x - 0.5 * spike(x - 0.5), ""),
    "gated": (lambda x: x * spike(x), "multiplied by values"),
    "where reset": (lambda x: torch.where(x > 0.5, torch.zeros_like(x), x), ""),
    "masked membrane": (lambda x: x.masked_fill(x > 0.5, 0.0), ""),
    "masked_fill_ membrane": (lambda x: x.clone().masked_fill_(x > 0.5, 0.0), ""),
    "item reset": (lambda x: _reset_items(x), ""),
    "in-place soft reset": (lambda x: x.clone().sub_(spike(x)), ""),
    "leaky trace": (lambda x: _trace(x), "unequal units"),
    "leaky trace in place": (lambda x: _trace_in_place(x), "unequal units"),
    "leaky trace lerp": (lambda x: torch.lerp(spike(x), spike(-x), 0.1), "unequal units"),
    "s + 0.3 s": (lambda x: spike(x) + 0.3 * spike(x - 0.5), "unequal units"),
    "cat of unequal": (lambda x: torch.cat([spike(x[:, :3]), 0.3 * spike(x[:, 3:])], 1), "unequal units"),
    "s + 0.3": (lambda x: spike(x) + 0.3, "multiples"),
    "2 s - 1": (lambda x: 2 * spike(x) - 1, "multiples"),
    "two levels": (lambda x: torch.where(x > 0, 1.0, 0.5), "none of them zero"),
    "where of -1 and 1": (lambda x: torch.where(x > 0, 1.0, -1.0), "none of them zero"),
    "cat with x": (lambda x: torch.cat([spike(x[:, :3]), x[:, 3:]], 1), "events and values"),
    "cat with ones": (lambda x: torch.cat([spike(x[:, :3]), torch.ones(len(x), 3)], 1), "constants"),
    "item of x": (lambda x: _one_value_item(x), "events and values"),
    "s / s.sum": (lambda x: spike(x) / spike(x).sum(1, keepdim=True), "division"),
    "s / norm": (lambda x: F.normalize(spike(x), dim=1), "division"),
    "softmax": (lambda x: spike(x).softmax(1), "softmax"),
    "sigmoid of s": (lambda x: spike(x).sigmoid(), ""),
    "exp of s": (lambda x: spike(x).exp(), ""),
    "s * rand": (lambda x: spike(x) * torch.rand_like(x), "values"),
    "s * randn": (lambda x: spike(x) * torch.randn(6), "values"),
    "s + noise": (lambda x: spike(x) + 0.1 * torch.randn_like(x), ""),
    "layer norm": (lambda x: F.layer_norm(spike(x), (6,)), "norm"),
    "batch norm": (lambda x: F.batch_norm(spike(x), torch.zeros(6), torch.ones(6)), "norm"),
    "quantised relu": (lambda x: torch.relu(x) - 0.5 * x, ""),
    "abs": (torch.abs, ""),
    "cosine": (torch.cos, ""),
    "interpolated": (lambda x: F.interpolate(spike(x)[:, None], 6, mode="linear")[:, 0], ""),
    "difference of slices": (lambda x: F.pad(x[:, 1:] - x[:, :-1], (1, 0)), ""),
    "difference of rolled": (lambda x: x - x.roll(1, 1), ""),
    "difference of steps": (lambda x: (x[0] - x[1])[None].expand(4, -1), ""),
    "diff": (lambda x: torch.diff(x, dim=1, prepend=x[:, :1] - 1), ""),
    "2 ** x": (lambda x: 2**x, ""),
    "decay ** x": (lambda x: torch.full((6,), 0.5) ** x, ""),
    "s ** x": (lambda x: (1 + spike(x)) ** x, ""),
    "normalised": (lambda x: F.normalize(x, dim=1), ""),
    "distance": (lambda x: torch.linalg.norm(x[:, :, None] - x[:, None, :], dim=2), ""),
    "extremes": (lambda x: torch.aminmax(x, dim=1).max[:, None].expand(-1, 6), ""),
    "decimals": (lambda x: torch.round(x, decimals=1) + 0.01 * x, ""),
    "std": (lambda x: x.std(1, keepdim=True).expand(-1, 6), ""),
}


def _trace(x: Tensor) -> Tensor:
    trace = torch.zeros_like(x)
    for t in range(3):
        trace = 0.9 * trace + spike(x - t / 4)
    return trace


def _trace_in_place(x: Tensor) -> Tensor:
    trace = torch.zeros_like(x)
    for t in range(3):
        trace.mul_(0.9).add_(spike(x - t / 4))
    return trace


def _reset_items(x: Tensor) -> Tensor:
    v = x.clone()
    v[v > 0.5] = 0.0
    return v


def _one_value_item(x: Tensor) -> Tensor:
    z = spike(x)
    z[:, 2] = x[:, 2]
    return z


def test_a_product_of_parameters_added_to_values_is_no_constant():
    """`addmm(x, A, B)` depends on x: the layer behind must not vanish."""

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 6))
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.addmm(self.first(x), self.a, self.b))

    found = counted(Adapted(), torch.randn(4, 6))
    assert found["last"].macs == [18.0] * 4


@torch.library.custom_op("provenance_tests::integrate_", mutates_args={"v"})
def integrate_(v: Tensor, x: Tensor) -> None:
    v.add_(x)


WRITES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a custom operation": lambda v, x: integrate_(v, x),
    "foreach": lambda v, x: torch._foreach_add_([v], [x]),  # pyright: ignore
}


@pytest.mark.parametrize("name", WRITES)
def test_what_an_operation_without_a_result_writes(name: str):
    """The membrane is no longer zero: spikes of it are events, or are listed."""

    def transform(x: Tensor) -> Tensor:
        v = torch.zeros_like(x)
        WRITES[name](v, x)
        return (v > 0.1).float()

    model, x = Through(transform), torch.randn(4, 6)
    found, m = metered(model, x)
    want = expected(model, model.layer, 1, x)
    assert found["layer"].operations == want
    assert found["layer"].quantum == 1 or m.uncounted


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 6)


def _check(transform: Transform, x: Tensor, quantum: float | None) -> str:
    """Compare with brute force; with and without gradients, and in inference mode."""
    model = Through(transform)
    reason = ""
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        torch.manual_seed(1)
        want = expected(model, model.layer, quantum, x)
        torch.manual_seed(1)
        with mode():
            row = _one(model, x)
        assert row.quantum == (None if quantum is None else pytest.approx(quantum)), (mode, row)
        assert row.operations == pytest.approx(want, abs=1e-3), mode
        assert sum(want) > 0
        reason = row.reason
    return reason


def _one(model: nn.Module, x: Tensor) -> Row:
    with meter(model) as m:
        model(x)
        found = rows(m.activity())
    assert list(found) == ["layer"]
    return found["layer"]


@pytest.mark.parametrize("name", BIRTHS)
def test_events_are_followed_from_where_they_are_born(name: str, x: Tensor):
    transform, quantum = BIRTHS[name]
    _check(transform, x, quantum)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_straight_through_arithmetic_is_events(name: str, x: Tensor):
    _check(STRAIGHT_THROUGH[name], x, 1)


@pytest.mark.parametrize("name", VALUES)
def test_what_is_no_event_is_values_and_says_why(name: str, x: Tensor):
    transform, reason = VALUES[name]
    assert reason in _check(transform, x, None)
