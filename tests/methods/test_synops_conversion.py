"""A quantised ANN with a SynOps target, and the spiking network made of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from picojoule.data import Dataset, intensities, limited, load
from picojoule.energy import count
from picojoule.energy.penalties import dense_accumulates, synops_target
from picojoule.errors import BadInput
from picojoule.exchange import load as load_model
from picojoule.exchange import save
from picojoule.experiment.config import Training
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.loop import Trainer
from picojoule.experiment.method import Progress
from picojoule.experiment.progress import Progressbar
from picojoule.graph import observe
from picojoule.layers import AddTime, MeanReadout, Repeat
from picojoule.methods.synops_conversion import FIRST_SHARE, QuantisedNeuron, SynOpsConversion
from picojoule.networks import Definition, Network
from picojoule.neurons import IAF

DEFINITION = Definition("small-cnn", (1, 8, 8), 10, pool="avg")
LAST = Progress(0, 9, 10)


def images(data: Dataset) -> Tensor:
    return intensities(data.test.images, data.scale)


def accumulates(network: Network, x: Tensor) -> float:
    """Per image."""
    with torch.no_grad():
        return float(count(observe(network, x[:1], strict=True)(x)[1]).total("acs"))


def accuracy(network: Network, data: Dataset) -> float:
    with torch.no_grad():
        return float((network(images(data)).argmax(1) == data.test.labels).double().mean())


def converted(method: SynOpsConversion, network: Network, timesteps: int = 16) -> Network:
    return method.finish(network, [], replace(DEFINITION, timesteps=timesteps)).eval()


def trained(method: SynOpsConversion, folder: Path, epochs: int = 6, name: str = "small-cnn") -> Network:
    data = limited(load("digits"), train=600)
    torch.manual_seed(0)
    network = method.build(replace(DEFINITION, name=name))
    job = Job(Setting(data, Training(epochs=epochs, batch_size=16), "avg", folder, torch.device("cpu")), method, 0)
    return Trainer(job, network, Progressbar("", quiet=True)).run()[0].eval()


@pytest.fixture(scope="module")
def ann(tmp_path_factory) -> Network:
    return trained(SynOpsConversion(target=0.1), tmp_path_factory.mktemp("ann"))


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30), st.integers(1, 20))
@settings(deadline=None)
def test_the_activation_is_a_clipped_rounding(values, levels):
    x = torch.tensor(values)
    assert torch.equal(QuantisedNeuron(levels)(x[None, None])[0, 0], (x + 0.5).floor().clamp(0, levels))


def test_the_gradient_is_that_of_a_clipped_relu():
    x = torch.tensor([-3.0, -0.1, 0.2, 0.5, 1.7, 3.9, 4.1, 9.0], requires_grad=True)
    y = QuantisedNeuron(4)(x[None, None])
    assert y.flatten().tolist() == [0, 0, 0, 1, 2, 4, 4, 4]
    y.backward(torch.arange(8.0)[None, None])
    assert x.grad is not None and x.grad.tolist() == [0, 0, 2, 3, 4, 5, 0, 0]


def test_it_is_an_integrate_and_fire_neuron_of_several_events():
    torch.manual_seed(0)
    currents = torch.randn(6, 3, 50) * 3
    by_levels, by_events = QuantisedNeuron(4), IAF(max_events=4, v_initial=0.5)
    assert torch.equal(by_levels(currents), by_events(currents))
    assert by_levels.emits == by_events.emits


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_events_have_the_dtype_of_the_current(dtype):
    y = QuantisedNeuron(3)(torch.tensor([[[0.6, 2.4, 7.0]]], dtype=dtype))
    assert y.dtype == dtype and y.flatten().tolist() == [1, 2, 3]


def test_the_penalised_number_is_the_reported_one():
    torch.manual_seed(0)
    method = SynOpsConversion(strength=2.0, target=0.07, levels=5)
    network = method.build(DEFINITION).train()
    x = images(limited(load("digits"), test=32))
    scores, activity = observe(network, x[:1], strict=True)(x)
    terms = method.loss(scores, torch.zeros(32, dtype=torch.long), activity, LAST)
    reported = count(activity).total("acs").detach()
    events = [layer for layer in network.modules() if isinstance(layer, QuantisedNeuron)]
    assert len(events) == 3 and network.timesteps == 1
    # one event per neuron: of 4 x 4 places, each the mean of 4 neurons, the 3 x 3 windows cover 100 and not 144
    conv2, fc3, fc4 = 16 * 4 * 100 * 32, 32 * 4 * 4 * 128, 128 * 10
    wanted = 0.07 * (conv2 + fc3 + fc4)
    assert dense_accumulates(activity) / 5 == conv2 + fc3 + fc4
    terms = {name: float(term.detach()) for name, term in terms.items()}
    assert terms["synops-conversion"] == pytest.approx(2 * float(reported / wanted - 1) ** 2, rel=1e-6)
    assert terms["synops-conversion"] == pytest.approx(2 * float(synops_target(activity, wanted).detach()))


def test_batch_norm_starts_at_the_first_share():
    torch.manual_seed(0)
    events = QuantisedNeuron(15)(torch.randn(1, 1, 400_000)).mean()
    assert float(events) == pytest.approx(FIRST_SHARE, abs=0.005)


def test_the_target_falls_epoch_by_epoch_and_stays():
    method = SynOpsConversion(target=0.01, ramp=0.5)
    shares = [method.target_share(Progress(0, epoch, 8)) for epoch in range(8)]
    steps = [later / earlier for earlier, later in zip([FIRST_SHARE, *shares], shares, strict=False)]
    assert steps[:4] == pytest.approx([(0.01 / FIRST_SHARE) ** 0.25] * 4) and shares[4:] == pytest.approx([0.01] * 4)
    assert SynOpsConversion(target=0.01, ramp=0.0).target_share(Progress(0, 0, 8)) == pytest.approx(0.01)


def one_hidden_layer(charge: Tensor) -> tuple[Network, Tensor]:
    """A hidden layer whose pre-activations are `charge`, and scores that are its events."""
    layer, reading = nn.Linear(1, len(charge)), nn.Linear(len(charge), len(charge), bias=False)
    with torch.no_grad():
        layer.weight.copy_(charge[:, None] / 2)
        layer.bias.copy_(charge / 2)
        reading.weight.copy_(torch.eye(len(charge)))
    neurons = QuantisedNeuron(8)
    parts = (AddTime(), nn.Flatten(2), layer, Repeat(1), neurons, reading, MeanReadout())
    x = torch.ones(1, 1, 1, 1, dtype=charge.dtype)
    return Network(nn.Sequential(*parts), (1, 1, 1), len(charge)).to(charge.dtype).eval(), x


@given(st.lists(st.integers(-300, 800), min_size=1, max_size=20), st.sampled_from([8, 9, 16, 33]))
@settings(max_examples=50, deadline=None)
def test_counts_of_one_hidden_layer_are_the_anns(hundredths, timesteps):
    charge = torch.tensor([n for n in hundredths if n % 100 != 50] or [0], dtype=torch.float64) / 100
    network, x = one_hidden_layer(charge)
    spiking = converted(SynOpsConversion(levels=8), network, timesteps)
    with torch.no_grad():
        assert torch.allclose(spiking(x), network(x), atol=1e-9)
        assert torch.equal(network(x)[0], (charge + 0.5).floor().clamp(0, 8))
    assert accumulates(spiking, x) == accumulates(network, x)
    assert spiking.timesteps == timesteps


def test_every_deployed_neuron_sends_one_event_per_step_at_most(ann):
    spiking = converted(SynOpsConversion(), ann, 8)
    neurons = [m for m in spiking.modules() if isinstance(m, IAF)]
    assert [type(m) for m in spiking.modules() if isinstance(m, QuantisedNeuron)] == []
    assert all(m.max_events == 1 and m.v_reset is None and m.threshold == 1 for m in neurons)
    assert [m.v_initial for m in neurons] == [0.5, -1.5, -3.5], "the last layer holds back half of 8 steps' events"


def test_a_trained_network_keeps_its_accuracy_and_its_accumulates(ann):
    data = load("digits")
    spiking = converted(SynOpsConversion(), ann)
    assert accuracy(ann, data) > 0.85
    assert accuracy(spiking, data) > accuracy(ann, data) - 0.02
    assert accumulates(spiking, images(data)) == pytest.approx(accumulates(ann, images(data)), rel=0.05)


def test_without_delay_events_that_come_too_early_cost_accumulates(ann):
    x = images(load("digits"))
    expected, delayed, early = (
        accumulates(network, x)
        for network in (ann, converted(SynOpsConversion(), ann), converted(SynOpsConversion(delay=0.0), ann))
    )
    assert early > 1.1 * expected and abs(delayed - expected) < 0.3 * (early - expected)


@pytest.mark.parametrize("name, gain", [("mlp", 1.0), ("mlp-3x32", 2.5), ("resnet20", 1.0)])
def test_what_can_be_built_is_converted_and_the_delay_helps(name, gain):
    x = images(limited(load("digits"), test=64))
    torch.manual_seed(0)
    network = SynOpsConversion().build(replace(DEFINITION, name=name)).train()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(gain)
        for _ in range(20):
            network(x)  # running statistics
        exact = network.eval()(x)
        early, delayed = (
            float((converted(SynOpsConversion(delay=delay), network, 32)(x) - exact).square().mean())
            for delay in (0.0, 0.5)
        )
    assert 0 < early < float("inf") and delayed < 0.2 * early


def test_a_lower_target_gets_fewer_accumulates(ann, tmp_path):
    x, method = images(load("digits")), SynOpsConversion(target=0.03)
    frugal = trained(method, tmp_path)
    assert accumulates(frugal, x) < 0.75 * accumulates(ann, x)
    assert accumulates(converted(method, frugal), x) < 0.75 * accumulates(converted(method, ann), x)


def test_what_is_saved_is_what_was_measured(ann, tmp_path):
    x, spiking = images(limited(load("digits"), test=20)), converted(SynOpsConversion(), ann)
    save(spiking, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(back(x), spiking(x))
    assert accumulates(back, x) == accumulates(spiking, x) and back.timesteps == 16


def test_max_pooling_is_refused_in_one_sentence():
    with pytest.raises(BadInput) as refusal:
        SynOpsConversion().build(replace(DEFINITION, pool="max"))
    assert str(refusal.value) == "synops-conversion needs average pooling, pool1 is max pooling; train with --pool avg"


def test_recurrent_networks_are_refused():
    with pytest.raises(BadInput, match="synops-conversion cannot convert recurrent networks such as spiking-rnn"):
        SynOpsConversion().build(replace(DEFINITION, name="spiking-rnn"))


@pytest.mark.parametrize(
    "options",
    [{"strength": -1.0}, {"target": 0.0}, {"ramp": 1.5}, {"levels": 0}, {"timesteps": 0}, {"delay": -0.1}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadInput, match=f"expected .*{next(iter(options))}"):
        SynOpsConversion(**options)
