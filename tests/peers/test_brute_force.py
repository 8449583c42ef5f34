"""The oracle itself: against hand counts, against NeuroBench, and every network of the zoo fires."""

import pytest
import torch
from torch import Tensor, nn

from .brute_force import Product, Truth, count_operations
from .installed import case, cases
from .tools import peer_numbers
from .zoo import ZOO, Entry

pytestmark = pytest.mark.filterwarnings("ignore")
MULTIPLE = ("snntorch-average-pool", "spikingjelly-ilif", "sinabs-iaf-squeeze", "spikingjelly-sew-residual")


def counts_of(entry: Entry, model: nn.Module, x: Tensor):
    return count_operations(model, x, entry.truth, x.shape[entry.batch_dim])


@pytest.mark.parametrize("entry", cases)
def test_all_sites_of_events_carry_some(entry: Entry):
    model = entry.model()
    for x in entry.batches(model):
        found = counts_of(entry, model, x)
        assert set(entry.truth.events) <= found.rates.keys()
        assert all(0.02 < rate < 0.98 for rate in found.rates.values()), found.rates
        assert (found.total("acs") <= 8 * found.total("synapses")).all()
        assert (found.total("macs") <= found.total("dense_macs")).all()


@pytest.mark.parametrize("entry", [case(e) for e in ZOO if e.name in MULTIPLE])
def test_several_events_at_once_are_several_accumulates(entry: Entry):
    model = entry.model()
    for x in entry.batches(model):
        found = counts_of(entry, model, x)
        assert (found.total("acs") > found.total("graded_events")).all()


@pytest.mark.parametrize("entry", [case(e, "neurobench") for e in ZOO if e.binary])
def test_neurobench_counts_the_same_on_zeros_and_ones(entry: Entry):
    model = entry.model()
    for x in entry.batches(model):
        found = counts_of(entry, model, x)
        if entry.reset:
            entry.reset(model)
        reported = peer_numbers("neurobench", model, x, entry.batch_dim)
        assert reported["acs"] == float(found.total("acs").mean())
        assert reported["macs"] == float(found.total("macs").mean()) == 0
        assert reported["dense"] == float(found.total("synapses").mean())


def test_a_convolution_by_hand():
    """3x3 input, 2x2 kernel, one channel to two: the corner has fan-out 1 x 2, an edge 2 x 2, the centre 4 x 2."""
    conv = nn.Sequential(nn.Conv2d(1, 2, 2))
    x = torch.zeros(2, 1, 3, 3)
    x[0, 0, 0, 0], x[0, 0, 1, 1], x[1, 0, 0, 1] = 0.5, -1.0, 0.5
    as_events = count_operations(conv, x, Truth({"0": 0.5}), 2).sites["0"]
    assert as_events.acs.tolist() == [1 * 2 + 2 * 8, 4]
    assert as_events.graded_events.tolist() == [2 + 8, 4]
    assert as_events.dense_macs.tolist() == as_events.macs.tolist() == [0, 0]
    as_values = count_operations(conv, x, Truth(), 2).sites["0"]
    assert as_values.macs.tolist() == [2 + 8, 4] and as_values.acs.tolist() == [0, 0]
    assert as_values.dense_macs.tolist() == as_values.synapses.tolist() == [32, 32]


def test_time_major_operands_are_given_to_their_samples():
    linear = nn.Sequential(nn.Linear(2, 5))
    x = torch.zeros(3, 2, 2)  # three steps, two samples
    x[0, 0, 0] = x[1, 1, 0] = x[2, 1, 1] = 1
    acs = count_operations(linear, x, Truth({"0": 1.0}, time_major=("0",), timesteps=3), 2).sites["0"].acs
    assert acs.tolist() == [5, 10]


@pytest.mark.parametrize(
    ("left", "right", "pairs"), [(True, True, 1), (True, False, 4), (False, True, 6), (False, False, 1)]
)
def test_a_product_of_activations_by_hand(left: bool, right: bool, pairs: int):
    """[3, 2] @ [2, 4]: two events on the left, two on the right; they meet once."""

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :6].reshape(-1, 3, 2) @ x[:, 6:].reshape(-1, 2, 4)

    x = torch.zeros(1, 14)
    x[0, 0] = 1.0  # left [0, 0]
    x[0, 6 + 1] = x[0, 6 + 6] = 1.0  # right [0, 1] and [1, 2]
    found = count_operations(Attention(), x, Truth(products=(Product("qk", left, right),)), 1).sites["qk"]
    assert (found.acs if left or right else found.macs).tolist() == [pairs]
    assert found.synapses.tolist() == [24]


def test_a_declaration_that_cannot_be_true_is_refused():
    linear = nn.Sequential(nn.Linear(2, 5))
    with pytest.raises(AssertionError, match="never called"):
        count_operations(linear, torch.zeros(1, 2), Truth({"nowhere": 1.0}), 1)
    with pytest.raises(AssertionError, match="no multiple"):
        count_operations(linear, torch.full((1, 2), 0.3), Truth({"0": 1.0}), 1)
