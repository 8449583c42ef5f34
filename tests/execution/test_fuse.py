"""Fused models against the models they were made from."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.execution.fuse import fused
from picojoule.execution.fused_part import Fused
from picojoule.graph import observe
from picojoule.graph.trace import trace
from picojoule.kernels.native.library import available, status, using
from picojoule.layers import Repeat, Timewise, pooling
from picojoule.neurons import IAF, LIF

needs_kernels = pytest.mark.skipif(status().active == "reference", reason="the compiled kernels are not active")


def _network(name: str, pool: str, steps: int, encoder: str) -> pj.Network:
    torch.manual_seed(1)
    network = pj.build(pj.Definition(name, (1, 28, 28), 10, steps, pool, encoder), lambda: LIF(0.9))
    return network.double()


def _tensors(activity: pj.Activity, trains: bool = False) -> list[torch.Tensor]:
    neurons = activity.neurons if trains else [n._replace(train=None) for n in activity.neurons]
    records = (*activity.synapses, *neurons)
    return [t for record in records for t in tree_leaves(tuple(record)) if isinstance(t, torch.Tensor)]


def _equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, check_dtype=False)


def _parts(model) -> list[Fused]:
    return [m for m in model.modules() if isinstance(m, Fused)]


@needs_kernels
@pytest.mark.parametrize("name,pool", [("mlp", "max"), ("small-cnn", "max"), ("small-cnn", "avg"), ("cnn7", "max")])
@pytest.mark.parametrize("steps,encoder", [(1, "constant-current"), (4, "constant-current"), (3, "direct")])
def test_outputs_records_and_gradients_stay(name, pool, steps, encoder):
    plain = _network(name, pool, steps, encoder)
    ours = copy.deepcopy(plain)
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    watched, together = observe(plain, x), fused(observe(ours, x))
    assert len(_parts(together)) == {"mlp": 2, "small-cnn": 3, "cnn7": 6}[name]
    for training in (True, False):
        watched.train(training)
        together.train(training)
        y, activity = watched(x)
        z, own = together(x)
        torch.testing.assert_close(z, y, rtol=1e-12, atol=1e-12)
        _equal(_tensors(own), _tensors(activity))
        if not training:
            with torch.no_grad():
                _equal(_tensors(together(x)[1]), _tensors(watched(x)[1]))
        for output, seen in ((y, activity), (z, own)):
            (output.square().sum() + 1e-4 * pj.synaptic_penalty(seen)).backward()
        for (key, a), b in zip(plain.named_parameters(), ours.parameters(), strict=True):
            assert a.grad is not None and b.grad is not None
            largest = float(a.grad.abs().max())
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-10 * largest, msg=key)
        plain.zero_grad()
        ours.zero_grad()
    for (key, a), b in zip(plain.named_buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12, msg=key)


@needs_kernels
def test_a_fused_network_streams():
    network = _network("small-cnn", "max", 3, "constant-current").eval()
    together, x = fused(network), torch.rand(2, 1, 28, 28, dtype=torch.float64)
    assert together.with_timesteps(6).timesteps == 6
    torch.testing.assert_close(together.with_timesteps(6)(x), network.with_timesteps(6)(x), rtol=1e-12, atol=1e-12)
    state = together.initial_state(2)
    _, state = together.advance(x, state)
    scores, _ = together.advance(x, state)
    torch.testing.assert_close(scores, network.with_timesteps(6)(x), rtol=1e-12, atol=1e-12)


@needs_kernels
def test_parameters_are_shared_and_the_given_model_is_left_alone():
    network = _network("small-cnn", "max", 2, "direct")
    code, together = network.graph_module.code, fused(network)
    assert network.graph_module.code == code
    assert {id(p) for p in together.parameters()} == {id(p) for p in network.parameters()}
    assert {id(b) for b in together.buffers()} == {id(b) for b in network.buffers()}


@needs_kernels
def test_nothing_but_the_fused_parts_runs(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a part ran on its own")

    together = fused(_network("small-cnn", "max", 2, "direct"))
    monkeypatch.setattr(nn.BatchNorm2d, "forward", refuse)
    monkeypatch.setattr(LIF, "advance", refuse)
    monkeypatch.setattr(nn.MaxPool2d, "forward", refuse)
    together(torch.rand(2, 1, 28, 28, dtype=torch.float64))


@pytest.mark.parametrize("path", ["reference", available()[-1]])
def test_what_has_no_kernel_runs_part_by_part(path):
    """Pools that do not tile, norms without momentum, learned neurons, several events at once, other dimensions."""

    def conv(channels: int = 3) -> nn.Module:
        return Timewise(nn.Conv2d(1, channels, 3, padding=1))

    def norm(**options) -> nn.Module:
        return Timewise(nn.BatchNorm2d(3, **options))

    models = [
        nn.Sequential(conv(), norm(), LIF(0.9), pooling("max", 2)),
        nn.Sequential(conv(), norm(momentum=None), LIF(0.9), pooling("avg", 3)),
        nn.Sequential(conv(), norm(track_running_stats=False), LIF(0.9), pooling("avg", 2)),
        nn.Sequential(conv(), norm(affine=False), LIF(0.9, v_initial=0.4), Timewise(nn.MaxPool2d(3, 2))),
        nn.Sequential(conv(), norm(), LIF(0.9, learn_decay=True), Timewise(nn.MaxPool2d(2, ceil_mode=True))),
        nn.Sequential(conv(), norm(), Repeat(3), LIF(0.9, max_events=3, v_reset=None), pooling("max", 5)),
        nn.Sequential(conv(), Repeat(2), LIF(0.9), Timewise(nn.AvgPool2d((1, 2)))),
        nn.Sequential(conv(1), nn.Flatten(3), Timewise(nn.BatchNorm1d(1)), LIF(0.9)),
        nn.Sequential(conv(), LIF(0.9, v_initial=0.3), nn.Flatten(2), nn.Linear(105, 4), IAF(0.2)),
    ]
    for model in models:
        shape = (1, 2, 1, 7, 5)
        ours, x = copy.deepcopy(model), torch.rand(shape)
        graph = fused(observe(ours, x, batch_dim=1))
        with using(path):
            for training in (True, False):
                watched = observe(model.train(training), x, batch_dim=1)
                graph.train(training)
                y, activity = watched(x)
                z, own = graph(x)
                torch.testing.assert_close(z, y)
                _equal(_tensors(own), _tensors(activity))


@needs_kernels
def test_events_that_go_two_ways_are_not_pooled_away():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.neuron = Timewise(nn.BatchNorm2d(2)), LIF(0.9)
            self.pool = pooling("max", 2)

        def forward(self, x):
            events = self.neuron(self.norm(x))
            return self.pool(events).sum() + 3 * events.sum()

    model, x = Fork().eval(), torch.randn(3, 2, 2, 4, 4) + 1
    together = fused(trace(model))
    assert len(_parts(together)) == 1 and _parts(together)[0].pool is None
    assert torch.equal(together(x), model(x)) and model(x) > 0


@needs_kernels
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled():
    network, x = _network("small-cnn", "max", 2, "constant-current"), torch.rand(3, 1, 28, 28, dtype=torch.float64)
    together = fused(observe(network, x))
    compiled = torch.compile(together)
    (y, activity), (z, own) = together(x), compiled(x)
    torch.testing.assert_close(z, y)
    _equal(_tensors(own), _tensors(activity))


def test_saying_what_can_be_fused(tmp_path):
    with pytest.raises(BadInput, match="expected a network, a graph or an observed model to fuse, got Linear"):
        fused(nn.Linear(2, 2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="Fused"):
        pj.save(fused(_network("mlp", "max", 1, "direct")), tmp_path / "model.safetensors")


def test_records_stay_where_time_is_folded_or_the_batch_is_elsewhere():
    class Folds(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.neuron, self.second = nn.Linear(3, 5), LIF(0.9, 0.1), nn.Linear(5, 2)

        def forward(self, x):
            return self.second(self.neuron(self.first(x.flatten(0, 1)).unsqueeze(0)))

    for model, shape, axis in (
        (Folds(), (4, 2, 3), 1),
        (nn.Sequential(nn.Linear(3, 5), LIF(0.9, 0.1)), (4, 6, 2, 3), 2),
    ):
        x = torch.rand(shape)
        watched = observe(model, x, batch_dim=axis)
        _equal(_tensors(fused(watched)(x)[1]), _tensors(watched(x)[1]))
        assert [r.steps for r in fused(watched)(x)[1].neurons] == [r.steps for r in watched(x)[1].neurons]


def test_only_what_is_folded_over_time_is_fused():
    norm = nn.BatchNorm1d(3)
    norm.running_mean = torch.tensor([-2.0, 0.0, 2.0])
    model = nn.Sequential(norm, LIF()).eval()
    x = torch.randn(4, 3, 3) * 3
    assert torch.equal(fused(trace(model))(x), model(x))


@needs_kernels
def test_statistics_are_torchs_in_odd_cases():
    def model() -> nn.Module:
        return nn.Sequential(Timewise(nn.BatchNorm1d(16)), LIF())

    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fused(trace(model()))(torch.rand(1, 1, 16))
    plain, ours = model(), model()
    repeated = torch.randn(1, 3, 16).expand(10, 3, 16)
    plain(repeated)
    fused(trace(ours))(repeated)
    _equal(list(ours.buffers()), list(plain.buffers()))


@needs_kernels
def test_a_fused_network_is_measured_like_the_plain_one_and_not_observed():
    network = _network("small-cnn", "max", 2, "direct").float().eval()
    x = torch.rand(4, 1, 28, 28)
    reports = [pj.measure(model, [x, x]) for model in (network, fused(network))]
    assert reports[0].silent_fraction == reports[1].silent_fraction < 1
    assert float(reports[0].counts.total("acs")) == float(reports[1].counts.total("acs"))
    with pytest.raises(BadInput, match="observe first"):
        observe(fused(network), x)


@needs_kernels
def test_states_and_flags_are_those_of_the_plain_network():
    network, x = _network("small-cnn", "max", 2, "constant-current").eval(), torch.rand(2, 1, 28, 28).double()
    together = fused(network)
    assert not together.training
    _, state = network.advance(x, network.initial_state(2))
    torch.testing.assert_close(together.advance(x, state)[0], network.advance(x, state)[0], rtol=1e-12, atol=1e-12)
    assert together.initial_state(2).keys() == network.initial_state(2).keys()


@needs_kernels
def test_hooks_on_the_parts_are_heard():
    network, seen = _network("small-cnn", "max", 2, "direct"), []
    for module in network.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda *_: seen.append(1))
    fused(network)(torch.rand(2, 1, 28, 28).double())
    assert len(seen) == 3
