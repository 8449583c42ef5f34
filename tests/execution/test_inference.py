"""`fast` against the network it was made from."""

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.execution import fast
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise
from picojoule.networks import ENCODERS, READOUTS


@pytest.mark.parametrize("name", ["mlp", "small-cnn", "cnn7", "spiking-rnn"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_scores_are_those_of_the_network(name, encoder):
    torch.manual_seed(0)
    for readout in READOUTS:
        definition = pj.Definition(name, (1, 28, 28), 10, 4, encoder=encoder, readout=readout)
        network = pj.build(definition, lambda: pj.LIF(0.9)).eval()
        before = [p.clone() for p in network.parameters()]
        x = torch.rand(3, *network.input_shape)
        for steps in (None, "auto", 2):
            model = fast(network, steps=steps)
            torch.testing.assert_close(model(x), network(x).detach(), rtol=1e-3, atol=1e-3)
        assert not model(x).requires_grad
        assert fast(network, "bf16")(x).dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_bf16_keeps_membranes_and_sums_in_float32():
    network = pj.Network(nn.Sequential(AddTime(), Repeat(400), pj.IAF(1.0), MeanReadout()), (5,), 5)
    x = torch.tensor([[0.5, 0.25, 0.75, 0.875, 0.125]])
    torch.testing.assert_close(fast(network, "bf16")(x), x)


def test_norms_that_stay_and_activations_with_weights():
    parts = [AddTime(), Timewise(nn.BatchNorm2d(1)), Timewise(nn.Conv2d(1, 16, 3)), nn.PReLU(), Repeat(2), pj.LIF()]
    network = pj.Network(nn.Sequential(*parts, nn.Flatten(2), MeanReadout()), (1, 8, 8), 16 * 36).eval()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(fast(network)(x), network(x).detach())
    assert fast(network, "bf16")(x).isfinite().all()


def test_what_cannot_be_made_fast():
    network = pj.build(pj.Definition("mlp", (1, 8, 8), 10), pj.LIF)
    with pytest.raises(BadInput, match="fp16"):
        fast(network, "fp16")
    with pytest.raises(BadInput, match="steps of at least 1 or 'auto', got 2.5"):
        fast(network, steps=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="expected a picojoule Network to make fast, got Sequential"):
        fast(nn.Sequential(nn.Linear(2, 2)))  # pyright: ignore[reportArgumentType]
