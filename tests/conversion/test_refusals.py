"""What cannot spike, and data that do not fit, are refused in one sentence that says what to do."""

import numpy as np
import pytest
import torch
from made_up_networks import made_up
from torch import nn

from picojoule.conversion import ECCOptions, convert
from picojoule.errors import BadInput
from picojoule.networks import Definition, build
from picojoule.neurons import IAF, WindowNeuron

IMAGES = torch.rand(4, 3, 8, 8)


def with_part(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), part, nn.Flatten(), nn.LazyLinear(5)).eval()


@pytest.mark.parametrize(
    "part",
    [nn.GELU(), nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.ELU()],
    ids=lambda part: type(part).__name__,
)
def test_an_activation_that_cannot_spike_is_named_with_what_to_do(part):
    network = with_part(part)
    network(IMAGES)
    with pytest.raises(BadInput) as refusal:
        convert(network, IMAGES)
    assert str(refusal.value) == (
        f"cannot convert 1 ({type(part).__name__}): it has no spiking form; train the network with ReLU in its place, "
        "which spikes can stand for, or take it out"
    )


class FirstOutput(nn.Module):
    """The first output of a layer that gives several, for images as sequences of rows."""

    def __init__(self, layer: nn.Module, inputs: int = 1):
        super().__init__()
        self.layer, self.inputs, self.scores = layer, inputs, nn.LazyLinear(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1, 2)
        found = self.layer(*(x,) * self.inputs)
        return self.scores((found[0] if isinstance(self.layer, GIVING_SEVERAL) else found).flatten(1))


GIVING_SEVERAL = (nn.LSTM, nn.GRU, nn.MultiheadAttention)
ENCODER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


@pytest.mark.parametrize(
    "network, advice",
    [
        (FirstOutput(nn.LSTM(8, 6, batch_first=True)), "without recurrence; .* `picojoule train plain --network spik"),
        (FirstOutput(nn.GRU(8, 6, batch_first=True)), "without recurrence"),
        (FirstOutput(ENCODER), "attention multiplies activations by each other, .*; use convolutions or linear"),
        (FirstOutput(nn.MultiheadAttention(8, 2, batch_first=True), 3), "attention multiplies"),
        (with_part(nn.LayerNorm(6)), "anew for every image; train the network with batch norm in its place"),
        (with_part(nn.GroupNorm(2, 4)), "train the network with batch norm in its place"),
        (with_part(nn.InstanceNorm2d(4)), "train the network with batch norm in its place"),
        (with_part(nn.Softmax(1)), "a softmax is left out where it makes the scores, but .*; train the network with"),
        (with_part(nn.ReflectionPad2d(1)), "it has no spiking form; use linear layers, .* in its place, or take it"),
    ],
    ids=["LSTM", "GRU", "TransformerEncoderLayer", "MultiheadAttention", "LayerNorm", "GroupNorm", "InstanceNorm2d",
         "Softmax", "ReflectionPad2d"],
)  # fmt: skip
def test_every_kind_of_layer_has_its_own_advice(network, advice, request):
    network(IMAGES)
    with pytest.raises(BadInput, match=rf"cannot convert \w+ \({request.node.callspec.id}\): .*{advice}"):
        convert(network.eval(), IMAGES)


@pytest.mark.parametrize("name", ["mixer-cnn-4x1", "mixer-rnn-4x1"])
@pytest.mark.parametrize("activation", [WindowNeuron, nn.ReLU])
def test_a_mixer_is_not_converted(name, activation):
    network = build(Definition(name, (3, 8, 8), 5), activation).eval()
    with pytest.raises(BadInput, match=r"a window mixer, spiking or of ReLUs, cannot be converted, .* train one-step`"):
        convert(network, IMAGES)


@pytest.mark.parametrize("again", [False, True], ids=["with neurons", "converted"])
def test_what_spikes_already_is_not_converted(again):
    network, x = made_up("conv")
    network = convert(network, x).network if again else nn.Sequential(nn.Flatten(), nn.Linear(9, 4), IAF())
    with pytest.raises(BadInput, match=r"nothing to convert: \S+ \(IAF\) already spikes; use the network as it is, or"):
        convert(network, x)


@pytest.mark.parametrize("options", [{}, {"input": "count"}], ids=str)
def test_a_network_without_a_place_for_spikes_is_not_converted(options):
    with pytest.raises(BadInput, match="there is nothing to convert: no layer of Sequential would receive spikes"):
        convert(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), IMAGES, options=ECCOptions(**options))


class Product(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return (x * x)[:, :5]


@pytest.mark.parametrize(
    "network, message",
    [
        (Product(), r"cannot convert mul \(mul\): it has no spiking form; write it as a layer of torch.nn"),
        (with_part(nn.LeakyReLU(-0.1)), r"cannot convert 1 \(LeakyReLU\) with a negative slope"),
        (with_part(nn.AdaptiveMaxPool2d(4)), r"cannot convert 1 \(AdaptiveMaxPool2d\): its windows overlap unevenly"),
        (with_part(nn.Hardtanh()), r"cannot convert 1 \(Hardtanh\) from -1: events are not negative"),
        (with_part(nn.BatchNorm2d(4, track_running_stats=False)), "cannot convert 1: it keeps no running statistics"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
            r"expected a model with scores \[B, classes\], got \(2, 4, 6, 6\)",
        ),
    ],
    ids=["product", "negative slope", "uneven pool", "hardtanh", "no statistics", "no classes"],
)
def test_other_parts_and_models(network, message):
    network(IMAGES)
    with pytest.raises(BadInput, match=message):
        convert(network.eval(), IMAGES)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value):
    network, x = made_up("conv")
    with torch.no_grad():
        network[2].weight[0, 0, 0, 0] = value  # pyright: ignore
    with pytest.raises(BadInput, match=r"cannot convert 2 \(Conv2d\): its weights hold NaN or infinity"):
        convert(network, x)


@pytest.mark.parametrize(
    "calibration, options, message",
    [
        ([], {}, "expected calibration images .* got none"),
        (torch.zeros(0, 3, 8, 8), {}, "expected calibration images .* got none"),
        (torch.rand(4, 1, 8, 8), {}, r"calibration images of shape \(1, 8, 8\) do not fit the model \([^)]+\)$"),
        (torch.rand(2, 8, 8), {}, r"shape \(8, 8\) do not fit .*; expected batches \[B, C, H, W\], give one image as"),
        (list(torch.rand(4, 2, 8, 8)), {}, r"shape \(8, 8\) do not fit .*; expected batches \[B, C, H, W\]"),
        (np.zeros((4, 3, 8, 8)), {}, "got a NumPy ndarray; make a tensor of it by torch.from_numpy"),
        ([np.zeros((4, 3, 8, 8))], {}, "batches that are tensors, .* got a NumPy ndarray"),
        ([{"pixels": torch.rand(4, 3, 8, 8)}], {}, r"got a dict; pass the tensor alone, such as batch\['pixels'\]"),
        (None, {}, "expected calibration images as a tensor .* got NoneType; pass a tensor"),
        ([1, 2], {}, "expected calibration images in batches .* got int"),
        ([torch.rand(8)], {}, r"got a tensor of shape \[8\]"),
        ([torch.rand(2, 3, 8, 8), torch.rand(2, 3, 9, 8)], {}, "expected calibration images of one shape"),
        (torch.full((4, 3, 8, 8), float("nan")), {}, "expected finite floating-point calibration images"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), {}, "expected finite floating-point calibration images"),
        (torch.zeros(4, 3, 8, 8), {}, "expected calibration images that show something, got only zeros"),
        (IMAGES - 1, {"input": "count"}, r"in \[0, 1\] for input='count', got numbers from -\S+ to -\S+;"),
        (255 * IMAGES, {"input": "count"}, r"in \[0, 1\] for input='count', got numbers from \S+ to 2\d\d\S+;"),
    ],
)
def test_calibration_data_that_do_not_fit(calibration, options, message):
    network, _ = made_up("conv")
    with pytest.raises(BadInput, match=message):
        convert(network, calibration, options=ECCOptions(**options))


def test_batches_with_labels_are_taken():
    network, x = made_up("conv")
    whole, batches = (convert(network, c).layers for c in (x, [(x, torch.zeros(len(x)))]))
    assert all(torch.equal(a.scale, b.scale) for a, b in zip(whole, batches, strict=True))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"normalisation": "mean"}, "unknown normalisation 'mean'"),
        ({"percentile": 0.0}, r"expected a percentile in \(0, 100\]"),
        ({"percentile": 99.0}, "expected normalisation='percentile' beside a percentile of 99, got 'mmse'; give both"),
        ({"residual": 1.0}, r"expected a residual in \[0, 1\)"),
        ({"constant": 0.0}, "expected a constant above 0"),
        ({"weight_bits": 1}, "expected weight_bits of 2 to 32"),
        ({"bn_epsilon": -1.0}, "expected a bn_epsilon of at least 0"),
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"readout": "mean"}, "unknown readout 'mean'"),
        ({"weight_rounding": "up"}, "unknown weight rounding 'up'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(BadInput, match=message):
        ECCOptions(**options)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"timesteps": 0}, "expected timesteps as a whole number of at least 1, got 0"),
        ({"timesteps": 2.5}, "expected timesteps as a whole number of at least 1, got 2.5"),
        ({"timesteps": "4"}, "expected timesteps as a whole number of at least 1, got '4'"),
        ({"options": {"input": "count"}}, r"expected options as ECCOptions\(normalisation='max', ...\), got dict"),
        ({"model": "model.keras"}, "expected a model that is an nn.Module, got str; pj.load opens model files"),
    ],
    ids=str,
)
def test_arguments_of_a_wrong_type(wrong, message):
    network, x = made_up("conv")
    with pytest.raises(BadInput, match=message):
        convert(**({"model": network, "calibration": x} | wrong))
