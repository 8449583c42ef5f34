"""The closed form of a population, and of a network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_networks import NETWORKS, made_up
from torch import nn

from picojoule.conversion import ECCOptions, closed_form, convert, count_mismatch
from picojoule.errors import BadInput


def one_layer(z: torch.Tensor) -> nn.Module:
    """A rectified layer with the activations `z`, and an identity to read them."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, len(z)), nn.ReLU(), nn.Linear(len(z), len(z), bias=False))
    with torch.no_grad():
        network[1].weight.zero_()  # pyright: ignore
        network[1].bias.copy_(z)  # pyright: ignore
        network[3].weight.copy_(torch.eye(len(z)))  # pyright: ignore
    return network.double().eval()


@given(
    st.integers(1, 64),
    st.lists(st.integers(-300, 1500), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_one_layer_is_the_quantised_activation_of_qcfs(timesteps, thousandths, residual, extension):
    z = torch.tensor([*thousandths, 1500], dtype=torch.float64) / 1500 * 1.5
    x, lam, t = torch.ones(1, 1, 1, 1).double(), 1.5, timesteps
    made = convert(one_layer(z), x, timesteps=t, options=ECCOptions(normalisation="max", residual=residual))
    exact = z / lam * t * (1 + extension / t) + residual
    tied = (exact - exact.round()).abs() < 1e-9
    with torch.no_grad():
        found = closed_form(made, extension=extension)(x)[0]
        free = closed_form(made, extension=extension, unlimited=True)(x)[0]
        clocked = made.network(x)[0]
    counts = exact.floor().clamp(0, t + extension)
    torch.testing.assert_close(found[~tied], (lam * counts / t)[~tied])
    torch.testing.assert_close(free[~tied], (lam * exact.floor().clamp(min=0) / t)[~tied])
    if not extension:
        torch.testing.assert_close(clocked[~tied], found[~tied])


@pytest.mark.parametrize("name", NETWORKS)
def test_it_converges_and_the_first_layer_is_as_clocked(name):
    network, x = made_up(name)
    made = convert(network, x, timesteps=256, options=ECCOptions(normalisation="max", bias_correction=False))
    with torch.no_grad():
        exact, found = made.ann(x), closed_form(made)(x)
    assert (exact - found).abs().mean() < 0.03 * exact.std()
    first = made.layers[0].name
    assert count_mismatch(made, x)[first] < 0.01, "a constant current leaves nothing to the order of events"


def test_counts_in_and_out():
    network, x = made_up("max-pool")
    options = ECCOptions(normalisation="max", input="count", readout="count")
    made = convert(network, x, timesteps=8, options=options)
    with torch.no_grad():
        for scores in (made.network(x), closed_form(made)(x)):
            assert torch.equal(scores, scores.round()) and scores.min() >= 0 and 0 < scores.max() <= 8


def test_other_numbers_of_steps_need_no_new_conversion():
    network, x = made_up("conv")
    options = ECCOptions(normalisation="max")
    made = convert(network, x, timesteps=8, options=options)
    with torch.no_grad():
        other = closed_form(convert(network, x, timesteps=32, options=options))(x)
        torch.testing.assert_close(closed_form(made, 32)(x), other)


@pytest.mark.parametrize("given", [{"timesteps": 0}, {"extension": -1}])
def test_steps_out_of_range(given):
    network, x = made_up("mlp")
    with pytest.raises(BadInput, match="expected timesteps >= 1 and extension >= 0"):
        closed_form(convert(network, x), **given)
