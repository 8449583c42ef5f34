import pytest
import torch
from hand_meter import HandMeter, measure
from torch import nn

from picojoule.kinds import Events

torch.manual_seed(0)
SPIKES = (torch.rand(4, 3, 8, 8) < 0.2).float()


def _totals(model: nn.Module, *batches: torch.Tensor) -> dict[str, float]:
    return dict(HandMeter(model.eval(), {}).run(batches, ["syops"])[0]["syops"].totals)


def test_batch_norm_counts_twice_its_elements_and_pools_their_inputs():
    totals = _totals(nn.Sequential(nn.BatchNorm2d(3), nn.MaxPool2d(2)), torch.randn(4, 3, 8, 8))
    assert totals == {"acs": 0, "macs": 2 * 192 + 192, "total": 2 * 192 + 192}


def test_norm_without_scale_counts_once():
    assert _totals(nn.Sequential(nn.BatchNorm2d(3, affine=False)), torch.randn(4, 3, 8, 8))["macs"] == 192


def test_an_activation_is_judged_by_its_first_sample():
    x = torch.stack([torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([0.3, 0.2, 0.7, 2.0])])
    assert _totals(nn.Sequential(nn.ReLU()), x) == {"acs": 2, "macs": 0, "total": 4}
    assert _totals(nn.Sequential(nn.ReLU()), x.flip(0)) == {"acs": 0, "macs": 4, "total": 4}


def test_the_bias_of_a_linear_counts_once_per_call():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    whole, halves = _totals(model, SPIKES * 0.7 - 0.1), _totals(model, *(SPIKES * 0.7 - 0.1).split(2))
    assert whole["macs"] == 1920 + 10 / 4
    assert halves["macs"] == 1920 + 2 * 10 / 4


def test_the_bias_of_a_convolution_counts_once_per_output():
    assert _totals(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(4, 3, 8, 8))["macs"] == 36 * 4 * 27 + 36 * 4


def test_a_transposed_convolution_is_counted_by_its_outputs():
    conv = nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False)
    report = measure(nn.Sequential(conv), torch.randn(4, 3, 8, 8), {}, ["syops"])["syops"]
    assert report.totals["macs"] == 16 * 16 * 2 * 2 * 3 * 4  # each input acts through 2 x 2 x 4 synapses: a quarter
    assert report.exact_operations == 8 * 8 * 3 * 2 * 2 * 4


def test_sub_classes_count_nothing():
    class OwnConv(nn.Conv2d):
        pass

    report = measure(nn.Sequential(OwnConv(3, 4, 3)), SPIKES, {"0": Events()}, ["syops"])["syops"]
    assert report.operations == 0 and "exact types" in report.differences[0]


def test_neurons_of_spikingjelly_count_their_elements():
    neuron = type("LIFNode", (nn.Identity,), {"__module__": "spikingjelly.activation_based.neuron"})
    stranger = type("LIFNode", (nn.Identity,), {"__module__": "elsewhere"})
    assert _totals(nn.Sequential(neuron()), SPIKES) == {"acs": 192, "macs": 0, "total": 192}
    assert _totals(nn.Sequential(stranger()), SPIKES) == {"acs": 0, "macs": 0}


@pytest.mark.parametrize(
    ("layer", "operations"),
    [
        (nn.RNN(5, 3), 3 * 5 + 3 * 3 + 3 + 6),
        (nn.GRU(5, 3, bias=False), 9 * 5 + 9 * 3 + 7 * 3),
        (nn.LSTM(5, 3, num_layers=2), (12 * 5 + 12 * 3 + 10 * 3 + 24) + (12 * 3 + 12 * 3 + 10 * 3 + 24)),
    ],
)
def test_recurrent_layers_enter_the_total_alone(layer, operations):
    totals = _totals(nn.Sequential(layer), torch.randn(2, 7, 5))
    assert totals == {"acs": 0, "macs": 0, "total": operations * 7}


def test_attention_enters_the_total_alone():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x)[0]

    # scale, three projections with bias, two heads of (QK, softmax, AV), output projection; 5 tokens of 6
    expected = 5 * 6 + 3 * 5 * 36 + 15 * 6 + 2 * (25 * 3 + 25 + 25 * 3) + 5 * 6 * 7
    assert _totals(Attend(), torch.randn(4, 5, 6)) == {"acs": 0, "macs": 0, "total": expected}


def test_the_divisor_of_the_tool_is_told_where_it_is_not_the_samples():
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    report = HandMeter(model, {}, folds=4).run([torch.randn(8, 3)], ["syops"])[0]["syops"]
    assert report.totals["macs"] == 4 * 6
    assert report.metrics["divisor"] == 8
    assert any("0.25 times" in s for s in report.differences)
