"""Conversion: exact folding, rates that converge, and the closed form of one layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from picojoule.data import intensities, load
from picojoule.errors import BadInput
from picojoule.graph.passes import fold_batch_norm
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise
from picojoule.methods.ann import ANN
from picojoule.methods.ecc import ECC
from picojoule.networks import Definition, Network
from picojoule.neurons import IAF, SignedIAF

DEFINITION = Definition("small-cnn", (1, 8, 8), 10, pool="avg")


def digits(count: int) -> torch.Tensor:
    data = load("digits")
    return intensities(data.train.images[:count], data.scale)


@pytest.fixture(scope="module", params=["small-cnn", "mlp"])
def ann(request) -> Network:
    """A network with running statistics of digits and weights that a few steps of training gave it."""
    data = load("digits")
    torch.manual_seed(0)
    network = ANN().build(Definition(request.param, (1, 8, 8), 10, pool="avg"))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for rows in torch.arange(1000).split(50):
        x, y = intensities(data.train.images[rows], data.scale), data.train.labels[rows]
        optimiser.zero_grad()
        nn.functional.cross_entropy(network.train()(x), y).backward()
        optimiser.step()
    return network.eval()


def converted(ann: Network, timesteps: int, *, bias_correction: bool = False, **options) -> Network:
    method = ECC(timesteps, bias_correction=bias_correction, **options)
    return method.finish(ann, [digits(300)], method.definition(DEFINITION, None)).eval()


def error(ann: Network, timesteps: int, **options) -> float:
    """Mean distance of the converted scores from the ANN's, in units of the ANN's mean score."""
    x = digits(100)
    with torch.no_grad():
        exact, rates = ann(x), converted(ann, timesteps, **options)(x)
    return float((exact - rates).abs().mean() / exact.abs().mean())


def test_batch_norm_is_folded_exactly(ann):
    with torch.no_grad():
        exact = ann(digits(300))
        folded = fold_batch_norm(ann.graph_module)(digits(300))
    assert (exact - folded).abs().max() <= 1e-5 * exact.abs().max()


def test_rates_converge_to_the_ann(ann):
    errors = [error(ann, t, normalisation="max") for t in (4, 16, 64, 256)]
    assert all(later < earlier for earlier, later in zip(errors, errors[1:], strict=False)), errors
    assert errors[-1] < 0.03, errors


def test_classes_converge_to_the_ann(ann):
    with torch.no_grad():
        same = ann(digits(300)).argmax(1) == converted(ann, 256)(digits(300)).argmax(1)
    assert same.double().mean() > 0.98


def test_half_a_threshold_of_residual_current_is_best(ann):
    errors = {r: error(ann, 8, residual=r, normalisation="max") for r in (0.0, 0.5, 0.95)}
    assert errors[0.5] < 0.75 * errors[0.0] and errors[0.5] < errors[0.95], errors


def test_no_rate_is_above_one_event_per_step(ann):
    network = converted(ann, 16, normalisation="max")
    peaks = []
    for module in network.modules():
        if isinstance(module, IAF):
            module.register_forward_hook(lambda _, __, y: peaks.append((float(y.max()), float(y.mean(0).max()))))
    with torch.no_grad():
        network(digits(300))
    assert len(peaks) >= 2
    assert all(peak == 1 and rate <= 1 for peak, rate in peaks)
    assert all(rate > 0.5 for _, rate in peaks), "a layer's largest activation is about one event per step"


def one_layer(z: torch.Tensor) -> Network:
    """A rectified layer whose currents are exactly `z`, and an identity behind it to read the events."""
    layer, reading = nn.Linear(1, len(z)), nn.Linear(len(z), len(z), bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(z)
        reading.weight.copy_(torch.eye(len(z)))
    parts = (AddTime(), nn.Flatten(2), layer, Repeat(1), nn.ReLU(), reading, MeanReadout())
    return Network(nn.Sequential(*parts), (1, 1, 1), len(z)).eval()


@given(
    st.integers(1, 64),
    st.lists(st.integers(-300, 1000), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
@settings(max_examples=60, deadline=None)
def test_closed_form_of_one_layer(timesteps, thousandths, residual):
    z = torch.tensor([*thousandths, 1000], dtype=torch.float64) / 1000  # the last one sets the scale to 1
    network = one_layer(z).double()
    method = ECC(timesteps, residual=residual, normalisation="max", bias_correction=False)
    made = method.finish(network, [torch.ones(1, 1, 1, 1).double()], method.definition(DEFINITION, None))
    with torch.no_grad():
        counts = made(torch.zeros(1, 1, 1, 1).double())[0] * timesteps
    exact = z * timesteps + residual
    expected = exact.floor().clamp(0, timesteps)
    tied = (exact - exact.round()).abs() < 1e-9  # the sum of T currents may round to either side
    assert torch.allclose(counts[~tied], expected[~tied], atol=1e-9)
    assert ((counts - expected).abs()[tied] <= 1 + 1e-9).all()


def test_the_average_pool_is_an_integrate_and_fire_layer_of_its_own():
    torch.manual_seed(0)
    network = converted(ANN().build(DEFINITION).eval(), 4, normalisation="max")
    graph = network.graph_module
    pools = [n for n in graph.graph.nodes if n.op == "call_module" and str(n.target).startswith("pool")]
    neurons = [n for n in pools if isinstance(graph.get_submodule(str(n.target)), IAF)]
    assert len(pools) == 4 and len(neurons) == 2
    for node in neurons:
        neuron = graph.get_submodule(str(node.target))
        assert isinstance(neuron, IAF)
        assert neuron.v_initial == pytest.approx(0.5 * float(neuron.threshold)) and neuron.v_reset is None


def test_max_pooling_converges_too():
    torch.manual_seed(0)
    definition = Definition("small-cnn", (1, 8, 8), 10, pool="max")
    network, method = ANN().build(definition).eval(), ECC(256)
    made = method.finish(network, [digits(300)], method.definition(definition, None))
    x = digits(100)
    with torch.no_grad():
        exact, rates = network(x), made(x)
    assert (exact - rates).abs().mean() < 0.03 * exact.abs().mean()


@pytest.mark.parametrize("part", [nn.Tanh(), Timewise(nn.LayerNorm(4))], ids=["Tanh", "LayerNorm"])
def test_what_cannot_spike_is_refused(part):
    parts = nn.Sequential(AddTime(), nn.Flatten(2), nn.Linear(4, 4), part, nn.ReLU(), nn.Linear(4, 2), MeanReadout())
    with pytest.raises(BadInput, match=r"cannot convert 3 \((Tanh|LayerNorm)\): .*train the network with"):
        ECC().finish(Network(parts, (1, 2, 2), 2), [torch.rand(3, 1, 2, 2)], DEFINITION)


def test_options_reach_the_conversion():
    torch.manual_seed(0)
    network = ANN().build(DEFINITION).eval()
    plain, other = converted(network, 4), converted(network, 4, normalisation="mmse", per_channel=True, signed=True)
    assert any(isinstance(m, SignedIAF) for m in other.modules())
    assert not any(isinstance(m, SignedIAF) for m in plain.modules())


@pytest.mark.parametrize(
    "options",
    [{"timesteps": 0}, {"percentile": 0.0}, {"percentile": 101.0}, {"percentile": 99.0}, {"residual": -0.1}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadInput, match=f"expected .*{next(iter(options))}"):
        ECC(**options)
