"""Every linear operation, fed with spikes and with values, against weights of one in an unmetered pass."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from metered import Through, counted, expected, metered, reached, rows, with_ones
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kinds import Events
from picojoule.metering import meter


def spike(x: Tensor) -> Tensor:
    return (x > 0.3).to(x)


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), (3, 6)),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), (3, 6)),
    "linear over positions": (lambda: nn.Linear(6, 5), (3, 4, 6)),
    "linear over planes": (lambda: nn.Linear(6, 5), (3, 2, 4, 6)),
    "conv1d": (lambda: nn.Conv1d(2, 5, 3), (3, 2, 9)),
    "conv1d same": (lambda: nn.Conv1d(2, 5, 3, padding="same", dilation=2), (3, 2, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 5, 3, padding=1), (3, 2, 6, 7)),
    "conv2d valid": (lambda: nn.Conv2d(2, 5, 3, padding="valid"), (3, 2, 6, 7)),
    "conv2d stride": (lambda: nn.Conv2d(2, 5, (3, 2), stride=(2, 3), padding=(1, 0)), (3, 2, 6, 7)),
    "conv2d dilated": (lambda: nn.Conv2d(2, 5, 3, padding=2, dilation=2), (3, 2, 6, 7)),
    "conv2d grouped": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (3, 4, 6, 7)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (3, 4, 6, 7)),
    "1x1": (lambda: nn.Conv2d(4, 3, 1), (3, 4, 5, 5)),
    "circular": (lambda: nn.Conv2d(2, 5, 3, padding=1, padding_mode="circular"), (3, 2, 6, 7)),
    "reflect": (lambda: nn.Conv2d(2, 5, 3, padding=1, padding_mode="reflect"), (3, 2, 6, 7)),
    "replicate": (lambda: nn.Conv2d(2, 5, 3, padding=1, padding_mode="replicate"), (3, 2, 6, 7)),
    "circular 1d": (lambda: nn.Conv1d(2, 5, 3, padding=2, padding_mode="circular"), (3, 2, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 3, (2, 3, 3), padding=(1, 0, 1), stride=(1, 2, 1)), (3, 2, 4, 5, 6)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(2, 5, 3, stride=2), (3, 2, 9)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(2, 5, 3, stride=2, padding=1, output_padding=1), (3, 2, 4, 5)),
    "transposed grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (3, 4, 4, 5)),
    "transposed dilated": (lambda: nn.ConvTranspose2d(2, 3, 3, padding=1, dilation=2), (3, 2, 4, 5)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), (3, 2, 2, 3, 4)),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("spikes", [True, False], ids=["events", "values"])
@pytest.mark.parametrize("channels_last", [True, False], ids=["nhwc", "nchw"])
def test_fan_out_is_exact(name: str, spikes: bool, channels_last: bool):
    make, shape = CONVOLUTIONS[name]
    layer, x = make(), torch.randn(shape)
    if channels_last:
        if x.dim() != 4 or "conv" not in type(layer).__name__.lower():
            return
        x, layer = x.to(memory_format=torch.channels_last), layer.to(memory_format=torch.channels_last)  # pyright: ignore
    model = Through(spike if spikes else torch.relu, layer)
    row = counted(model, x)["layer"]
    assert row.quantum == (1 if spikes else None)
    assert row.operations == expected(model, layer, 1 if spikes else None, x)
    dense = reached(layer, torch.ones(shape))
    if "padding_mode" not in str(layer):
        assert [row.dense] * len(dense) == dense


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_fan_out_in_every_grad_mode(mode: Callable):
    layer, x = nn.Conv2d(4, 6, 3, padding=1, groups=2, stride=2), torch.randn(3, 4, 6, 7)
    model = Through(spike, layer)

    with mode(), meter(model) as m:
        model(x)
        row = rows(m.activity())["layer"]
    assert row.acs == expected(model, layer, 1, x)


WEIGHT = torch.randn(5, 6, generator=torch.Generator().manual_seed(3))
PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], str]] = {
    "F.linear": (lambda z, w: F.linear(z, w), (3, 6), "bi,oi->bo"),
    "@": (lambda z, w: z @ w.t(), (3, 6), "bi,oi->bo"),
    "3d @": (lambda z, w: z @ w.mT, (3, 4, 6), "bti,oi->bto"),
    "4d @": (lambda z, w: z @ w.mT, (3, 2, 4, 6), "bhti,oi->bhto"),
    "from left": (lambda z, w: w @ z, (3, 6, 4), "bit,oi->bot"),
    "mm": (lambda z, w: torch.mm(z, w.t()), (3, 6), "bi,oi->bo"),
    "addmm": (lambda z, w: torch.addmm(torch.ones(5), z, w.t()), (3, 6), "bi,oi->bo"),
    "einsum": (lambda z, w: torch.einsum("bi,oi->bo", z, w), (3, 6), "bi,oi->bo"),
    "einsum of images": (lambda z, w: torch.einsum("bihw,oi->bohw", z, w), (3, 6, 2, 3), "bihw,oi->bohw"),
    "einsum weight first": (lambda z, w: torch.einsum("oi,bti->bto", w, z), (3, 4, 6), "bti,oi->bto"),
    "tensordot": (lambda z, w: torch.tensordot(z, w, dims=([1], [1])), (3, 6), "bi,oi->bo"),  # pyright: ignore
    "mv": (lambda z, w: torch.stack([torch.mv(w, row) for row in z]), (3, 6), "bi,oi->bo"),
    "matmul vector": (lambda z, w: torch.stack([w @ row for row in z]), (3, 6), "bi,oi->bo"),
    "bmm, expanded weight": (lambda z, w: torch.bmm(z, w.t().expand(len(z), 6, 5)), (3, 4, 6), "bti,oi->bto"),
    "baddbmm": (
        lambda z, w: torch.baddbmm(torch.zeros(len(z), 4, 5), z, w.t().expand(len(z), 6, 5)),
        (3, 4, 6),
        "bti,oi->bto",
    ),
    "conv1d as linear": (lambda z, w: F.conv1d(z, w[..., None]), (3, 6, 4), "bit,oi->bot"),
    "nn.functional.linear of bf16": (
        lambda z, w: F.linear(z.bfloat16(), w.bfloat16()),
        (3, 6),
        "bi,oi->bo",
    ),
    "out=": (lambda z, w: torch.mm(z, w.t(), out=torch.empty(len(z), 5)), (3, 6), "bi,oi->bo"),
    "masked weight": (lambda z, w: F.linear(z, w * (w > 0)), (3, 6), "bi,oi->bo"),
    "inner": (lambda z, w: torch.inner(z, w), (3, 6), "bi,oi->bo"),
    "multi_dot": (lambda z, w: torch.linalg.multi_dot([z, w.t()]), (3, 6), "bi,oi->bo"),
}


class Product(nn.Module):
    """A functional product of spikes with a parameter."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], make: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function, self.make = function, make
        self.weight = nn.Parameter(WEIGHT.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.make(x), self.weight)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("spikes", [True, False], ids=["events", "values"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_functional_products_with_a_parameter(name: str, spikes: bool, mode: Callable):
    function, shape, equation = PRODUCTS[name]
    x = torch.randn(shape)
    model = Product(function, spike if spikes else torch.relu)
    with mode():
        found = counted(model, x)
    assert len(found) == 1
    (row,) = found.values()
    pattern = (model.make(x) != 0).double()
    want = torch.einsum(equation, pattern, torch.ones(5, 6).double())
    assert row.quantum == (1 if spikes else None)
    if name in ("mv", "matmul vector"):  # one call for each sample; the samples are told apart or share evenly
        assert sum(row.operations) == pytest.approx(float(want.sum()))
    else:
        assert row.operations == want.flatten(1).sum(1).tolist()
        assert list(found) == ["weight"]


ATTENTION: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "matmul": lambda q, k, v: (q @ k.mT) @ v,
    "scaled": lambda q, k, v: ((q @ k.mT) * 0.125) @ v,
    "bmm": lambda q, k, v: torch.bmm(torch.bmm(q, k.transpose(1, 2)), v),
    "einsum": lambda q, k, v: torch.einsum("bnm,bmd->bnd", torch.einsum("bnd,bmd->bnm", q, k), v),
    "right first": lambda q, k, v: q @ (k.mT @ v),
}


class Functional(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


def _pairs(a: Tensor, b: Tensor) -> list[float]:
    return ((a != 0).double() @ (b != 0).double()).flatten(1).sum(1).tolist()


@pytest.mark.parametrize("name", ATTENTION)
def test_products_of_spikes_count_coincidences(name: str):
    x = torch.randn(3, 3, 5, 4)

    def parts(x: Tensor) -> tuple[Tensor, ...]:
        return tuple((x > 0.1).float().unbind(1))

    found = counted(Functional(lambda x: ATTENTION[name](*parts(x))), x).values()
    q, k, v = parts(x)
    first, second = (
        (_pairs(k.mT, v), _pairs(q, k.mT @ v)) if name == "right first" else (_pairs(q, k.mT), _pairs(q @ k.mT, v))
    )
    assert all(row.quantum is not None for row in found)
    both = (torch.tensor(first) + torch.tensor(second)).tolist()
    assert torch.tensor([row.acs for row in found]).sum(0).tolist() == both


def test_spikes_times_values_cost_one_accumulate_per_output():
    x = torch.randn(3, 2, 5, 4)
    (row,) = counted(Functional(lambda x: spike(x[:, 0]) @ x[:, 1].mT), x).values()
    assert row.acs == [5 * float(n) for n in spike(x[:, 0]).flatten(1).sum(1)]


def test_values_times_values_are_macs():
    x = torch.randn(3, 2, 5, 4)
    (row,) = counted(Functional(lambda x: x[:, 0].relu() @ x[:, 1].mT.relu()), x).values()
    assert row.macs == _pairs(x[:, 0].relu(), x[:, 1].mT.relu())


def test_fused_attention_on_spikes():
    x = torch.randn(2, 3, 2, 5, 4)
    model = Functional(lambda x: F.scaled_dot_product_attention(*(x > 0.1).float().unbind(1)))
    found = list(counted(model, x).values())
    q, k, _ = (x > 0.1).float().unbind(1)
    v = (x > 0.1).float()[:, 2]
    assert found[0].acs == _pairs(q, k.mT)
    assert found[1].acs == [5 * float(n) for n in v.flatten(1).sum(1)]


def test_events_times_events_plus_values_is_values():
    """What `baddbmm` adds may be anything."""
    layer = nn.Linear(4, 3)
    model = Functional(lambda x: layer(torch.baddbmm(x, spike(x), spike(x))))
    model.layer = layer
    x = torch.randn(3, 4, 4)
    found, m = metered(model, x)
    assert found["layer"].macs == [48.0] * 3 and m.uncounted == ()
    assert sum(sum(row.acs) for row in found.values()) == sum(_pairs(spike(x), spike(x)))


def test_what_leaves_fused_attention_is_values():
    x = torch.randn(2, 3, 2, 5, 4)
    layer = nn.Linear(4, 3)
    model = Functional(lambda x: layer(F.scaled_dot_product_attention(*(x > 0.1).float().unbind(1))))
    model.layer = layer
    found, m = metered(model, x)
    assert found["layer"].quantum is None and m.uncounted == ()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention_is_counted_or_listed(grad: bool, training: bool, batch_first: bool):
    """In evaluation without gradients it is one fused operation, which must not vanish."""
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first).train(training)
    model = Functional(lambda x: attention(spike(x), spike(x), spike(x))[0])
    model.attention = attention
    x = torch.randn((3, 5, 8) if batch_first else (5, 3, 8))

    with torch.set_grad_enabled(grad), meter(model, batch_dim=0 if batch_first else 1) as m:
        model(x)
        try:
            found = rows(m.activity())
        except BadInput:
            found = {}
    total = sum(sum(row.operations) for row in found.values())
    inner = float(spike(x).sum()) * 8 * 3
    fused = any("multi_head" in what for what in m.uncounted)
    assert fused or total > inner


def test_transformer_encoder_layer_in_evaluation_is_counted_or_listed():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 2))
    found, m = metered(model, torch.randn(3, 5, 4))
    assert "1.linear1" in found or any("transformer" in what for what in m.uncounted)


def test_bilinear_is_listed_or_counted():
    layer = nn.Bilinear(4, 5, 3)
    model = nn.Sequential(nn.Linear(6, 9))
    both = Functional(lambda x: layer(*torch.split(model(x), [4, 5], 1)))
    both.layer, both.model = layer, model
    found, m = metered(both, torch.randn(2, 6))
    assert len(found) > 1 or any("bilinear" in what or "trilinear" in what for what in m.uncounted)


def test_embedding_reads_one_row_per_token():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3))
    tokens = torch.randint(0, 10, (2, 5))
    found = counted(model, tokens)
    assert next(iter(found.values())).acs == [5 * 4.0] * 2
    assert found["1"].macs == [5 * 4 * 3.0] * 2


def test_embedding_bag_is_listed():
    model = nn.Sequential(nn.EmbeddingBag(10, 4), nn.Linear(4, 3))
    found, m = metered(model, torch.randint(0, 10, (2, 5)))
    assert "0" in found or any("embedding_bag" in what for what in m.uncounted)


def _unfolded(z: Tensor, weight: Tensor) -> Tensor:
    return weight.flatten(1) @ F.unfold(z, 3, padding=1)


def test_unfold_and_matmul_counts_what_the_convolution_counts():
    """Unfolding copies each event as often as there are windows over it: that is its fan-out."""
    layer = nn.Conv2d(2, 5, 3, padding=1, bias=False)
    model = Functional(lambda x: _unfolded(spike(x), layer.weight))
    model.layer = layer
    x = torch.randn(3, 2, 6, 7)
    (row,) = counted(model, x).values()
    assert row.quantum == 1 and row.acs == reached(layer, spike(x))


RECURRENT = [nn.LSTM, nn.GRU, nn.RNN]


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("mode", ["no_grad", "grad", "inference"])
def test_recurrent_layers(kind: type[nn.LSTM], bidirectional: bool, layers: int, mode: str):
    """Fed with spikes: the input part of the first layer is events; all else values, one MAC per non-zero."""
    T, B, N, H = 4, 3, 5, 6
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind.__name__]
    layer = kind(N, H, num_layers=layers, bidirectional=bidirectional)
    model = Functional(lambda x: layer(spike(x))[0])
    model.layer = layer
    x = torch.randn(T, B, N)

    context = {"no_grad": torch.no_grad, "grad": torch.enable_grad, "inference": torch.inference_mode}[mode]
    with context(), meter(model, batch_dim=1) as m:
        model(x)
        found = rows(m.activity())
    directions = 2 if bidirectional else 1
    events = torch.tensor([row.acs for row in found.values()]).sum(0)
    values = torch.tensor([row.macs for row in found.values()]).sum(0)
    assert events.tolist() == (spike(x).sum((0, 2)) * gates * H * directions).tolist()
    recurrent = directions * layers * (T - 1) * gates * H * H
    deeper = (layers - 1) * directions * T * directions * H * gates * H
    at_rest = directions * layers * gates * H * H  # the initial state is zero, so its first step is free
    assert m.uncounted == ()
    assert values.tolist() == pytest.approx([recurrent + deeper] * B)
    dense = sum(row.dense for row in found.values())
    assert dense == pytest.approx(recurrent + deeper + at_rest + T * N * gates * H * directions)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_batch_first(kind: type[nn.LSTM]):
    layer = kind(5, 6, batch_first=True)
    model = Functional(lambda x: layer(spike(x))[0])
    model.layer = layer
    x = torch.randn(3, 4, 5)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind.__name__]
    found = counted(model, x)
    events = torch.tensor([row.acs for row in found.values()]).sum(0)
    assert events.tolist() == (spike(x).sum((1, 2)) * gates * 6).tolist()


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_recurrent_cells(kind: type[nn.LSTMCell], mode: Callable):
    gates = {"LSTMCell": 4, "GRUCell": 3, "RNNCell": 1}[kind.__name__]
    cell = kind(5, 6)

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for step in x:
                state = self.cell(spike(step), state)
            return state[0] if isinstance(state, tuple) else state  # pyright: ignore

    model, x = Loop(), torch.randn(4, 3, 5)
    with mode(), meter(model, batch_dim=1) as m:
        model(x)
        found = rows(m.activity())
    events = torch.tensor([row.acs for row in found.values()]).sum(0)
    values = torch.tensor([row.macs for row in found.values()]).sum(0)
    assert events.tolist() == (spike(x).sum((0, 2)) * gates * 6).tolist()
    assert values.tolist() == [3 * gates * 36.0] * 3
    assert set(found) == {"cell.weight_ih", "cell.weight_hh"}


POOLS: dict[str, tuple[nn.Module, float | None]] = {
    "max": (nn.MaxPool2d(2), 1),
    "max, padded": (nn.MaxPool2d(3, 2, padding=1), 1),
    "max, ceil": (nn.MaxPool2d(2, ceil_mode=True), 1),
    "max with indices": (nn.MaxPool2d(2, return_indices=False, dilation=2), 1),
    "avg": (nn.AvgPool2d(2), 0.25),
    "avg 3": (nn.AvgPool2d(3, 2), 1 / 9),
    "avg, oblong": (nn.AvgPool2d((1, 3)), 1 / 3),
    "avg, padded": (nn.AvgPool2d(2, padding=1), 0.25),
    "avg, padded, not counted": (nn.AvgPool2d(2, padding=1, count_include_pad=False), None),
    "avg, not counted, no padding": (nn.AvgPool2d(2, count_include_pad=False), 0.25),
    "avg, ceil": (nn.AvgPool2d(2, ceil_mode=True), None),
    "avg, divisor": (nn.AvgPool2d(2, ceil_mode=True, divisor_override=1), 1),
    "adaptive avg": (nn.AdaptiveAvgPool2d((3, 1)), 1 / 14),
    "adaptive avg, uneven": (nn.AdaptiveAvgPool2d((4, 2)), None),
    "adaptive avg, one": (nn.AdaptiveAvgPool2d(1), 1 / 42),
    "adaptive max": (nn.AdaptiveMaxPool2d((4, 2)), 1),
    "sum": (nn.LPPool2d(1, 2), 1),
    "nearest": (nn.Upsample(scale_factor=2), 1),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), None),
    "shuffle": (nn.Sequential(nn.PixelUnshuffle(1), nn.ChannelShuffle(2)), 1),
    "zero padding": (nn.ZeroPad2d(1), 1),
    "reflection": (nn.ReflectionPad2d(1), 1),
    "ones around": (nn.ConstantPad2d(1, 1.0), None),
    "dropout": (nn.Dropout2d(0.5).eval(), 1),
    "batch norm": (nn.BatchNorm2d(2).eval(), None),
    "batch norm in training": (nn.BatchNorm2d(2), None),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_between_spikes_and_synapses(name: str):
    pool, quantum = POOLS[name]
    layer = nn.Conv2d(2, 3, 3, padding=1)
    model = nn.Sequential(pool, layer)
    x = (torch.rand(3, 2, 6, 7) < 0.3).float()
    found, m = metered(model, x, inputs=Events(most=1))
    assert found["1"].quantum == (None if quantum is None else pytest.approx(quantum))
    assert found["1"].operations == pytest.approx(expected(model, layer, quantum, x))
    assert m.uncounted == ()
    assert (found["1"].reason == "") is (quantum is not None)


SCALES: dict[str, tuple[Callable[[Any, Tensor], Tensor], float | None]] = {
    "constant": (lambda m, z: z * 0.3, 0.3),
    "0-d buffer": (lambda m, z: z * m.height, 0.7),
    "one-element parameter": (lambda m, z: z * m.learned, 0.4),
    "per-channel parameter": (lambda m, z: z * m.channels, 1.0),
    "per-channel buffer": (lambda m, z: m.spread * z, 1.0),
    "divided by a parameter": (lambda m, z: z / m.learned, 2.5),
    "exp of a parameter": (lambda m, z: z * m.channels.exp(), 1.0),
    "clamped parameter": (lambda m, z: z * m.learned.clamp(0, 1), 1.0),
}


class Scaled(nn.Module):
    channels: nn.Parameter

    def __init__(self, scale: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.scale = scale
        self.learned = nn.Parameter(torch.tensor([0.4]))
        self.channels = nn.Parameter(torch.linspace(0.5, 1.5, 6))
        self.height: Tensor
        self.spread: Tensor
        self.register_buffer("height", torch.tensor(0.7))
        self.register_buffer("spread", torch.linspace(1, 2, 6))
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.scale(self, spike(x)))


@pytest.mark.parametrize("name", SCALES)
def test_scaled_spikes_are_events(name: str):
    """A height that is known only as a tensor is one unit; what counts is whether there is an event."""
    scale, quantum = SCALES[name]
    model, x = Scaled(scale), torch.randn(3, 6)
    row = counted(model, x)["layer"]
    assert row.quantum == pytest.approx(quantum)
    assert row.acs == reached(model.layer, spike(x))


def test_counts_of_several_spikes_through_an_average_pool_are_paid():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, bias=False))
    x = torch.randint(0, 4, (3, 2, 8, 8)).float()
    row = counted(model, x, inputs=Events(most=3))["1"]
    assert row.quantum == 0.25
    assert row.acs == expected(model, model[1], 0.25, x)


def test_zero_weights_on_request():
    layers = {
        "linear": (nn.Linear(6, 5), (3, 6)),
        "conv": (nn.Conv2d(4, 6, 3, padding=1, groups=2, stride=2), (3, 4, 5, 5)),
        "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (3, 4, 5, 5)),
    }
    for name, (layer, shape) in layers.items():
        with torch.no_grad():
            layer.weight[torch.rand_like(layer.weight) < 0.5] = 0.0
        x = torch.randn(shape)
        model = Through(spike, layer)
        row = counted(model, x, skip_zero_weights=True)["layer"]
        ones: Any = with_ones(layer)
        with torch.no_grad():
            ones.weight.copy_(layer.weight != 0)
            want = ones(spike(x).double()).flatten(1).sum(1).tolist()
        assert row.acs == want, name
        assert counted(model, x)["layer"].acs == reached(layer, spike(x)), name


def test_zero_weights_of_a_product_and_of_changed_weights():
    model = Product(lambda z, w: z @ w.t(), spike)
    x = torch.randn(3, 6)

    with torch.no_grad(), meter(model, skip_zero_weights=True) as m:
        model(x)
        assert rows(m.activity())["weight"].acs == [5 * float(n) for n in spike(x).sum(1)]
        model.weight[:3] = 0.0
        model(x)
        assert rows(m.activity())["weight"].acs == [2 * float(n) for n in spike(x).sum(1)]


def test_zero_weights_that_change_between_quick_calls():
    layer = nn.Linear(6, 5)
    model = nn.Sequential(layer)
    x = (torch.rand(3, 6) < 0.5).float()

    with torch.no_grad(), meter(model, inputs=Events(most=1), skip_zero_weights=True) as m:
        model(x)
        m.activity()
        layer.weight[:3] = 0.0
        model(x)
        assert rows(m.activity())["0"].acs == [2 * float(n) for n in x.sum(1)]


def test_sums_beyond_float32_are_exact():
    """2**24 + 1 events through one synapse each."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    x = torch.ones(1, 2**24 + 1, 1)
    (row,) = counted(model, x, inputs=Events(most=1)).values()
    assert row.acs == [2**24 + 1]
    assert math.isfinite(row.dense)


def test_half_precision_counts_are_exact():
    model = nn.Sequential(nn.Linear(3000, 7, bias=False)).bfloat16()
    x = torch.ones(2, 3000, dtype=torch.bfloat16)
    (row,) = counted(model, x, inputs=Events(most=1)).values()
    assert row.acs == [21000.0] * 2


def test_autocast():
    layer = nn.Linear(600, 7)
    model = Through(spike, layer)
    x = torch.randn(2, 600)
    with torch.autocast("cpu", torch.bfloat16):
        row = counted(model, x)["layer"]
    assert row.quantum == 1 and row.acs == reached(layer, spike(x))


@pytest.mark.parametrize("height", [0.3, 1 / 9, 0.7])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scaled_spikes_in_half_precision_are_events(height: float, dtype: torch.dtype):
    """0.3 is 0.30078 in bfloat16."""
    layer = nn.Linear(6, 5).to(dtype)
    model = Through(lambda x: sum((spike(x - i) for i in range(4)), torch.zeros_like(x)) * height, layer)
    x = torch.randn(3, 6).to(dtype)
    found, m = metered(model, x)
    n = sum((spike(x.double() - i) for i in range(4)), torch.zeros_like(x).double())
    assert m.uncounted == () and found["layer"].acs == reached(nn.Linear(6, 5), n)


def test_vmap():
    layer = nn.Linear(6, 5)
    model = Functional(lambda x: torch.vmap(lambda row: layer(spike(row)))(x))
    model.layer = layer
    x = torch.randn(3, 6)
    row = counted(model, x)["layer"]
    assert sum(row.operations) == sum(reached(layer, spike(x)))


@pytest.mark.parametrize("B", [1, 3])
def test_a_batch_of_one_that_is_squeezed(B: int):
    layer = nn.Linear(6, 5)
    model = Functional(lambda x: layer(spike(x).squeeze()))
    model.layer = layer
    x = torch.randn(B, 1, 6)
    assert counted(model, x)["layer"].acs == reached(layer, spike(x[:, 0]))


def test_complex_numbers_are_values_or_listed():
    weight = nn.Parameter(torch.randn(6, 5, dtype=torch.complex64))
    model = Functional(lambda x: (x.to(torch.complex64) @ weight).abs())
    model.weight = weight
    found, m = metered(model, torch.randn(3, 6))
    assert found["weight"].quantum is None and found["weight"].macs == [30.0] * 3


def test_integers():
    """Integer inputs are values unless stated: a count is not known to be spikes."""
    weight = nn.Parameter(torch.ones(6, 5, dtype=torch.long), requires_grad=False)
    model = Functional(lambda x: x @ weight)
    model.weight = weight
    x = torch.randint(0, 3, (3, 6))
    assert counted(model, x)["weight"].quantum is None
    assert counted(model, x, inputs=Events(most=2))["weight"].acs == [5.0 * n for n in x.sum(1).tolist()]


def test_a_fourier_transform_is_listed():
    layer = nn.Linear(4, 3)
    model = Functional(lambda x: layer(torch.fft.rfft(spike(x)).abs()))
    model.layer = layer
    found, m = metered(model, torch.randn(3, 6))
    assert found["layer"].quantum is None
    assert any("fft" in what for what in m.uncounted)
