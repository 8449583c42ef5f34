import pytest
import torch

from picojoule.errors import BadInput
from picojoule.layers import MeanReadout, MembraneReadout, SpikeCount

READOUTS = {
    "mean": MeanReadout(),
    "count": SpikeCount(),
    "last": MembraneReadout(0.5),
    "max": MembraneReadout(0.5, read="max"),
}


@pytest.mark.parametrize(
    "name, currents, score",
    [
        ("mean", [1.0, 2.0, 6.0], 3.0),
        ("count", [1.0, 0.0, 3.0], 4.0),
        ("last", [1.0, 0.0, 4.0], 4.25),
        ("last", [2.0, -4.0], -3.0),
        ("max", [2.0, -4.0], 2.0),
        ("max", [1.0, 0.0, 4.0], 4.25),
        ("max", [-3.0, -1.0], -2.5),
        ("mean", [-3.0], -3.0),
    ],
)
def test_scores_by_hand(name, currents, score):
    x = torch.tensor(currents).reshape(-1, 1, 1).repeat(1, 2, 3)
    assert torch.equal(READOUTS[name](x), torch.full((2, 3), score))


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize("cuts", [(6,), (1, 5), (2, 3, 1), (1,) * 6])
def test_in_pieces_equals_the_whole(name, cuts):
    readout = READOUTS[name]
    x = torch.randint(0, 3, (6, 4, 5), generator=torch.Generator().manual_seed(1)).double()
    state, scores = readout.initial_state(x), None
    for piece in x.split(list(cuts)):
        scores, state = readout.advance(piece, state)
    assert scores is not None
    torch.testing.assert_close(scores, readout(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", READOUTS)
def test_gradient_is_finite(name):
    x = torch.rand(3, 2, 4, requires_grad=True)
    READOUTS[name](x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and (x.grad != 0).any()


@pytest.mark.parametrize(
    "arguments, message",
    [({"read": "mean"}, "'last' or 'max'"), ({"decay": 0.0}, "decay"), ({"decay": 1.5}, "decay")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(BadInput, match=message):
        MembraneReadout(**arguments)
