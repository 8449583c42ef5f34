"""Scales from calibration data."""

import pytest
import torch
from made_up_networks import made_up
from torch import Tensor, nn

from picojoule.conversion import ECCOptions, convert, diagnose
from picojoule.layers import Permute, Reshape, Scale


def activations(per_channel_limits: Tensor, samples: int = 400) -> tuple[nn.Module, Tensor]:
    """A network whose first rectifier sees `relu(x)` itself: images whose channels go up to the limits."""
    torch.manual_seed(0)
    channels = len(per_channel_limits)
    network = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(channels).reshape(channels, channels, 1, 1))  # pyright: ignore
    x = torch.rand(samples, channels, 4, 4) ** 3 * per_channel_limits.reshape(-1, 1, 1)
    network(x)
    return network.eval(), x


def scale(network: nn.Module, x: Tensor, timesteps: int = 8, **options) -> Tensor:
    return convert(network, x.split(100), timesteps=timesteps, options=ECCOptions(**options)).layers[0].scale.flatten()


def rounding_error(x: Tensor, lam: float, timesteps: int) -> float:
    return float((x - lam * (x * timesteps / lam).round().clamp(0, timesteps) / timesteps).square().mean())


@pytest.mark.parametrize("timesteps", [2, 8, 32])
def test_mmse_finds_the_scale_with_the_least_rounding_error(timesteps):
    network, x = activations(torch.tensor([1.0, 3.0, 0.2]))
    for c, found in enumerate(scale(network, x, timesteps, normalisation="mmse", per_channel=True).tolist()):
        values = x[:, c].flatten()
        largest = float(values.max())
        best = min(rounding_error(values, largest * k / 95, timesteps) for k in range(1, 96))
        assert rounding_error(values, found, timesteps) <= 1.02 * best + 1e-12
        assert found <= largest


def test_mmse_clips_more_at_fewer_steps():
    network, x = activations(torch.ones(3))
    found = [float(scale(network, x, t, per_channel=False)) for t in (2, 8, 64)]
    assert found[0] < found[1] < found[2] <= float(x.max())


def test_percentiles_are_means_over_batches():
    network, x = activations(torch.tensor([1.0, 3.0]))
    expected = torch.stack([batch.flatten().kthvalue(round(0.9 * batch.numel())).values for batch in x.split(100)])
    assert scale(network, x, normalisation="percentile", percentile=90.0)[0] == pytest.approx(float(expected.mean()))
    by_channel = scale(network, x, normalisation="percentile", percentile=90.0, per_channel=True)
    assert float(by_channel[1]) == pytest.approx(3 * float(by_channel[0]), rel=0.1)


def test_the_largest_percentile_is_the_maximum():
    network, x = activations(torch.tensor([1.0, 3.0]))
    largest = scale(network, x, normalisation="percentile", percentile=100.0)
    assert torch.equal(largest, scale(network, x, normalisation="max"))


@pytest.mark.parametrize("options, expected", [({"normalisation": "none"}, 1.0), ({"constant": 2.5}, 2.5)])
def test_constants(options, expected):
    network, x = activations(torch.tensor([1.0, 3.0]))
    assert scale(network, x, **options).tolist() == [expected]


def test_silent_channels_and_layers_have_a_scale():
    network, x = activations(torch.tensor([1.0, 0.0]))
    found = scale(network, x, normalisation="max", per_channel=True)
    assert found[1] == found[0] == x.max()
    with torch.no_grad():
        network[0].weight.neg_()  # pyright: ignore
        assert scale(network, x, normalisation="max").tolist() == [1.0]
        assert convert(network, x).network(x).isfinite().all()


@pytest.mark.parametrize(
    "layers, shared",
    [
        ((nn.MaxPool2d(2), Permute(1, 2, 0), nn.Flatten(), nn.LazyLinear(3)), False),
        ((Permute(1, 2, 0), nn.Linear(4, 3), nn.Flatten()), False),
        ((Permute(2, 0, 1), nn.Linear(4, 3), nn.Flatten()), True),
        ((Reshape(8, 2, 4), nn.Conv2d(8, 3, 1), nn.Flatten()), False),
        ((Reshape(2, 8, 4), nn.Conv2d(2, 3, 1), nn.Flatten()), True),
        ((Reshape(-1), nn.LazyLinear(3)), False),
    ],
)
def test_channels_have_scales_of_their_own_where_weights_can_take_them_in(layers, shared):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), *layers), torch.rand(50, 3, 4, 4)
    expected = network(x).detach()
    made = convert(network.eval(), x, timesteps=64, options=ECCOptions(normalisation="max", per_channel=True))
    assert made.layers[0].scale.numel() == (1 if shared else 4)
    torch.testing.assert_close(made.scaled(x), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, Scale) and m.factor.dim() for m in made.network.modules()), "events stay events"


class Turned(nn.Module):
    """A sum of events, of which one operand is turned."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.turn = Permute(1, 0, 2)

    def forward(self, x):
        return self.last(self.a(x).relu() + self.turn(self.b(x).relu())).flatten(1)


def test_a_turned_operand_of_a_sum_has_one_scale():
    torch.manual_seed(0)
    made = convert(Turned().eval(), torch.rand(20, 3, 4, 4), options=ECCOptions(per_channel=True))
    assert [layer.scale.numel() for layer in made.layers] == [1, 1]
    assert made.layers[0].scale == made.layers[1].scale


@pytest.mark.parametrize("name", ["residual", "leaky", "concat"])
def test_mean_activations_match_after_bias_correction(name):
    network, x = made_up(name)
    errors = []
    for correct in (False, True):
        options = ECCOptions(normalisation="max", bias_correction=correct)
        made = convert(network, x, timesteps=8, options=options)
        with torch.no_grad():
            errors.append(float((made.network(x).mean(0) - made.ann(x).mean(0)).abs().max()))
    assert errors[1] < 1e-4 < errors[0]


def test_bias_correction_runs_synapses_once_for_every_image(monkeypatch):
    network, x = made_up("conv")
    runs, forward = [], nn.Conv2d.forward

    def counted(self, x):
        runs.append(len(x))
        return forward(self, x)

    def steps_of_the_second_layer(correct: bool) -> int:
        runs.clear()
        convert(network, x, timesteps=8, options=ECCOptions(normalisation="max", bias_correction=correct))
        return sum(n for n in runs if n >= 8)  # the first layer has no time

    monkeypatch.setattr("picojoule.conversion.correct.ELEMENTS", 8 * 6 * 64 * 4)  # pieces of four images
    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    plain = steps_of_the_second_layer(False)
    assert steps_of_the_second_layer(True) == plain + 8 * len(x)


def test_bias_correction_with_few_held_images(monkeypatch):
    network, x = made_up("residual")
    monkeypatch.setattr("picojoule.conversion.correct.ELEMENTS", 8 * 6 * 64 * 4)
    shifts = []
    for held in (None, 2**28, 1):  # none corrected; means over all images, and over the first four
        if held is not None:
            monkeypatch.setattr("picojoule.conversion.correct.HELD", held)
        options = ECCOptions(normalisation="max", bias_correction=held is not None)
        found = diagnose(convert(network, x, timesteps=8, options=options), [x])
        shifts.append(sum(abs(layer.shift) for layer in found.layers))
    without, all_images, few_images = shifts
    assert all_images < few_images < 0.7 * without


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantised_weights_have_few_levels(bits):
    network, x = made_up("depthwise")
    made = convert(network, x, options=ECCOptions(weight_bits=bits))
    for module in made.scaled.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            steps = module.weight / module.weight.abs().max() * (2 ** (bits - 1) - 1)
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
            assert len(steps.round().unique()) <= 2**bits - 1


def test_truncated_weights_are_not_larger():
    network, x = made_up("conv")
    plain, cut = (convert(network, x, options=o).scaled for o in (ECCOptions(), _truncated()))
    for a, b in zip(plain.parameters(), cut.parameters(), strict=True):
        if a.dim() > 1:
            assert (b.abs() <= a.abs() * (1 + 1e-5)).all() and not torch.equal(a, b)
            steps = b / a.abs().max() * 8
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)


def _truncated() -> ECCOptions:
    return ECCOptions(weight_bits=4, weight_rounding="trunc")
