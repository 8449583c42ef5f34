"""Optimisers and schedules: which weights decay, and how the learning rate moves."""

import pytest
import torch
from torch import nn

from picojoule.errors import BadInput
from picojoule.experiment.config import Training
from picojoule.experiment.optimiser import SHARES, WARM_START, optimiser_for, share_of_rate


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("name, kind", [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_only_weights_of_layers_decay(name, kind):
    network = small()
    optimiser = optimiser_for(network, Training(optimiser=name, weight_decay=1e-2, lr=0.1))
    assert type(optimiser) is kind
    before = {key: p.clone() for key, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    moved = {key for key, p in network.named_parameters() if not torch.equal(p, before[key])}
    assert moved == {"0.weight", "3.weight"}
    if name == "sgd":  # the step of Nesterov momentum 0.9 on a gradient of 1e-2 w
        torch.testing.assert_close(network.get_parameter("0.weight"), before["0.weight"] * (1 - 0.1 * 1e-2 * 1.9))


def test_shares_of_the_rate():
    cosine, one_cycle = SHARES["cosine"], SHARES["one-cycle"]
    assert [cosine(d) for d in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [one_cycle(d) for d in (0, 0.15, 0.3, 0.65, 1)] == pytest.approx([0.04, 0.52, 1, 0.5, 0])


def test_the_warm_up_comes_before_the_schedule():
    cosine = Training(warm_up=0.2)
    assert [share_of_rate(cosine, d) for d in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([WARM_START, 0.501, 1, 0.5, 0])
    plain = Training(lr_schedule="one-cycle")
    assert [share_of_rate(plain, d) for d in (0, 0.15, 1)] == [SHARES["one-cycle"](d) for d in (0, 0.15, 1)]


BAD = [{"warm_up": -0.1}, {"warm_up": 1.0}, {"clip": 0.0}, {"optimiser": "adm"}, {"lr_schedule": "step"}]


@pytest.mark.parametrize("bad", [*BAD, {"weight_decay": -1}, {"augment": "x"}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(BadInput):
        Training(**bad)
