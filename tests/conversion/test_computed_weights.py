"""Weights that are computed at every call are converted as what they are; what acts beside the layers is refused."""

import copy

import pytest
import torch
from made_up_networks import made_up
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from picojoule.conversion import ECCOptions, convert
from picojoule.errors import BadInput

COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "weight norm as a hook": weight_norm,
    "spectral norm as a hook": spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned bias": lambda layer: prune.l1_unstructured(layer, "bias", 0.5),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("how", COMPUTED)
def test_computed_weights_become_plain_ones(how):
    network, x = made_up("conv")
    COMPUTED[how](network[2])  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        expected = network(x)
        made = convert(network, x, options=ECCOptions(normalisation="max"))
        torch.testing.assert_close(made.scaled(x), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(network(x), expected)
    assert {name.rpartition(".")[2] for name, _ in made.network.named_parameters()} == {"weight", "bias"}


@pytest.mark.parametrize("hook", [lambda m, x, y: 2 * y, lambda m, x, y: y + 1], ids=["doubles", "adds"])
def test_a_hook_that_changes_what_a_layer_computes_is_refused(hook):
    network, x = made_up("conv")
    network[1].register_forward_hook(hook)  # pyright: ignore[reportIndexIssue]
    with pytest.raises(BadInput, match="the layers of Sequential make other scores than it does, by up to .* hooks"):
        convert(network, x)


def test_a_hook_that_only_looks_is_taken_and_left_out():
    network, x = made_up("conv")
    plain, calls = copy.deepcopy(network), []
    network[1].register_forward_hook(lambda m, x, y: calls.append(y))  # pyright: ignore[reportIndexIssue]
    made = convert(network, x)
    calls.clear()
    with torch.no_grad():
        assert torch.equal(made.network(x), convert(plain, x).network(x))
    assert not calls


def test_a_final_softmax_is_left_out_of_the_comparison():
    network, x = made_up("conv")
    twice = nn.Sequential(network, nn.Softmax(1), nn.LogSoftmax(1))
    with torch.no_grad():
        torch.testing.assert_close(convert(twice, x).ann(x), network(x), rtol=1e-4, atol=1e-5)
