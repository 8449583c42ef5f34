from copy import deepcopy

import pytest
import torch
from hand_meter import HandMeter, measure
from torch import Tensor, nn

from picojoule.energy.conventions import neurobench_keys
from picojoule.energy.conventions.neurobench_cells import cell_operations
from picojoule.energy.conventions.neurobench_static import connection_sparsity, footprint
from picojoule.errors import BadInput
from picojoule.kinds import Events

torch.manual_seed(0)
SPIKES = (torch.rand(4, 3, 6, 6) < 0.3).float()


def _keys(model: nn.Module, *batches: Tensor) -> dict:
    return neurobench_keys(HandMeter(model.eval(), {}).run(batches, ["neurobench"])[0]["neurobench"])


def _prune(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p[torch.rand_like(p) < 0.4] = 0
    return model


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(3, 6, 3, stride=2, dilation=2, padding=2, groups=3),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.Linear(6, 5),
    ],
)
def test_effective_operations_are_the_layer_run_on_zeros_and_ones(layer):
    with torch.no_grad():
        _prune(layer)
        binary = deepcopy(layer)
        binary.weight.copy_((layer.weight != 0).float())
        binary.bias.zero_()
        expected = float(binary((SPIKES != 0).float()).sum()) / 4
    synaptic = _keys(nn.Sequential(layer), SPIKES)["SynapticOperations"]
    assert synaptic["Effective_ACs"] == pytest.approx(expected)
    assert synaptic["Effective_MACs"] == 0


def test_zero_weights_are_told():
    report = measure(_prune(nn.Sequential(nn.Linear(6, 5))), SPIKES, {"0": Events()}, ["neurobench"])["neurobench"]
    assert any("Zero weights are discounted" in s for s in report.differences)


def test_the_class_follows_the_batch():
    model = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False)).eval()
    x = torch.cat([SPIKES[:2], SPIKES[2:] * 0.3])
    whole = HandMeter(model, {"0": Events()}).run([x], ["neurobench"])[0]["neurobench"]
    parts = HandMeter(model, {"0": Events()}).run(x.split(2), ["neurobench"])[0]["neurobench"]
    assert whole.totals["Effective_ACs"] == 0 < parts.totals["Effective_ACs"]
    assert whole.operations == pytest.approx(parts.operations)
    assert any("each batch" in s for s in parts.differences)


def test_transposed_convolutions_count_nothing_and_that_is_told():
    conv = nn.Sequential(nn.ConvTranspose2d(3, 2, 2))
    report = measure(conv, SPIKES, {"0": Events()}, ["neurobench"])["neurobench"]
    assert report.operations == 0 and "fewer" in report.differences[0]


def test_a_module_shared_by_two_parents_counts_for_each():
    layer = nn.Linear(6, 6, bias=False)
    once = _keys(nn.Sequential(nn.Sequential(layer)), SPIKES)["SynapticOperations"]["Dense"]
    model = nn.Sequential(nn.Sequential(layer), nn.Sequential(layer))
    assert _keys(model, SPIKES)["SynapticOperations"]["Dense"] == 4 * once  # two calls, each counted twice


def test_static_metrics():
    linear = nn.Linear(4, 2)
    model = nn.Sequential(linear, nn.BatchNorm1d(2), nn.Sequential(nn.Conv1d(1, 1, 2), nn.LSTMCell(3, 2)))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1)
        linear.weight[0] = 0
    keys = _keys(nn.Sequential(linear), torch.rand(2, 4))
    assert (keys["ParameterCount"], keys["Footprint"], keys["ConnectionSparsity"]) == (10, 40, 0.5)
    cell = 8 * 3 + 8 * 2 + 16
    assert connection_sparsity(model) == round(4 / (8 + 2 + cell), 4)
    parameters = sum(p.numel() for p in model.parameters())
    assert footprint(model) == 4 * parameters + 4 * 4 + 8  # running mean and variance; an int64 counter


def test_activation_sparsity_is_over_relu_and_sigmoid():
    x = torch.tensor([[1.0, -1.0, 2.0, -3.0], [-1.0, -1.0, -1.0, 5.0]])
    keys = _keys(nn.Sequential(nn.Identity(), nn.ReLU(), nn.Sequential(nn.Sigmoid())), x)
    assert keys["ActivationSparsity"] == 5 / 16
    assert keys["ActivationSparsityByLayer"] == {"1": 5 / 8, "0": 0.0}


def test_keys_and_their_order_are_those_of_the_tool():
    keys = _keys(nn.Sequential(nn.Linear(6, 2), nn.ReLU()), SPIKES)
    assert list(keys) == [
        *("ParameterCount", "Footprint", "ConnectionSparsity", "ActivationSparsity", "ActivationSparsityByLayer"),
        *("MembraneUpdates", "SynapticOperations", "NeuronOperations"),
    ]
    assert list(keys["SynapticOperations"]) == ["Effective_MACs", "Effective_ACs", "Dense"]
    assert keys["NeuronOperations"] == 0.0  # the tool fails on a ReLU


SpikingNeuron = type("SpikingNeuron", (nn.Module,), {"__module__": "snntorch"})


class Leaky(SpikingNeuron):
    """A stand-in with what NeuroBench reads of snnTorch's neurons."""

    _reset_mechanism, init_hidden, output = "zero", True, False

    def __init__(self):
        super().__init__()
        self.mem = torch.zeros(0)

    def forward(self, x):
        before = self.mem if self.mem.shape == x.shape else torch.zeros_like(x)
        self.mem = before + x
        return (self.mem > 1).float()


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = Leaky()

    def forward(self, x: Tensor) -> Tensor:
        self.neuron.mem = torch.zeros(0)
        return torch.stack([self.neuron(x[:, t]) for t in range(x.shape[1])], 1)


def test_membrane_updates_count_changes_and_all_of_the_first_step():
    x = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])  # [B, T, N]
    for batches in ([x], [x[:1], x[1:]]):
        keys = _keys(Loop(), *batches)
        assert keys["MembraneUpdates"] == (4 + 1 + 2) / 2
        assert keys["NeuronOperations"] == {"Effective Neuron Ops": 4 * 7 / 2, "Neuron Dense Ops": 4 * 12 / 2}


@pytest.mark.parametrize("cell", [nn.RNNCell(5, 3), nn.RNNCell(5, 3, bias=False)])
def test_an_rnn_cell_counts_both_of_its_products(cell):
    x, h = torch.eye(5)[:2], torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 0.0]])
    counted = cell_operations(cell, (x, h))
    assert counted is not None
    assert counted == (2 * 3 + 3 * 3, 2 * 5 * 3 + 2 * 3 * 3, True)


def test_gated_cells_count_their_gates():
    x, h = torch.ones(1, 2), torch.ones(1, 3)
    lstm, gru = nn.LSTMCell(2, 3, bias=False), nn.GRUCell(2, 3)
    counted = cell_operations(lstm, (x, (h, h)))
    assert counted is not None
    assert counted.dense == counted.effective == 12 * 2 + 12 * 3 + (3 + 3) + 3  # f*c and i*g, then o*c
    counted = cell_operations(gru, (x, h))
    assert counted is not None
    assert counted.dense == 9 * 2 + 9 * 3 + 3 + (3 + 3)  # r*(Wh), then (1-z)*n and z*h


def test_where_the_tool_fails_it_prints_zero():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    x = torch.randn(4, 3, 6)
    meter = HandMeter(Recurrent().eval(), {})
    report = meter.run([x], ["neurobench"])[0]["neurobench"]
    assert neurobench_keys(report)["SynapticOperations"] == 0.0
    assert any("prints 0" in s for s in report.differences)
    later = meter.run([x[:2], x[2:]], ["neurobench"])[0]["neurobench"]
    assert neurobench_keys(later)["SynapticOperations"]["Effective_MACs"] == 3 * 4 * 2


def test_other_reports_have_no_neurobench_keys():
    with pytest.raises(BadInput, match="'norse'"):
        neurobench_keys(measure(nn.Sequential(nn.Linear(6, 2)), SPIKES, {}, ["norse"])["norse"])
