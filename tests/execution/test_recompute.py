"""Recomputed training: the same outputs, records, gradients and statistics, with less kept for backward."""

import copy
import gc

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.execution import recomputed, recomputed_over_time
from picojoule.execution.fuse import fused
from picojoule.graph import observe, trace
from picojoule.kernels.saved import membranes_saved_in
from picojoule.layers import AddTime, Concatenate, MeanReadout, Repeat, Residual, Timewise
from picojoule.networks import Definition, build

SHAPE = (1, 8, 8)
IMAGES = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(6) % 10


def network(name="small-cnn", encoder="constant-current", timesteps=4, readout="mean"):
    torch.manual_seed(0)
    return build(Definition(name, SHAPE, 10, timesteps, "max", encoder, readout), pj.LIF)


def convolution(channels, out):
    return Timewise(nn.Conv2d(channels, out, 3, padding=1, bias=False)), Timewise(nn.BatchNorm2d(out)), pj.LIF()


def branching():
    torch.manual_seed(0)
    branches = Concatenate(nn.Sequential(*convolution(4, 4)), nn.Sequential(*convolution(4, 2), *convolution(2, 2)))
    parts = [*convolution(1, 4), Residual(nn.Sequential(*convolution(4, 4), *convolution(4, 4))), branches]
    model = nn.Sequential(AddTime(), Repeat(3), *parts, nn.Flatten(2), nn.Linear(6 * 64, 10), MeanReadout())
    return pj.Network(model, SHAPE, 10)


def train_once(model, own, x=IMAGES):
    """Scores, records, gradients and buffers of one step, from the same random numbers."""
    torch.manual_seed(7)
    out = model(x)
    scores, activity = out if isinstance(out, tuple) else (out, None)
    loss = nn.functional.cross_entropy(scores, LABELS[: len(scores)])
    if activity is not None:
        loss = loss + 1e-3 * sum(r.acs.mean() for r in activity.penalisable())
    loss.backward()
    gradients = [p.grad for p in own.parameters()]
    return scores, [t for t in tree_leaves(activity) if isinstance(t, Tensor)], gradients, list(own.buffers())


def assert_same(found, expected):
    assert len(found) == len(expected) == 4
    for mine, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("make", [network, branching, lambda: network("spiking-rnn"), lambda: network("mlp")])
def test_a_network_trains_bit_by_bit_as_before(make):
    own, twin = make(), make()
    assert_same(train_once(recomputed(twin), twin), train_once(own, own))


@pytest.mark.parametrize("encoder", ["constant-current", "direct", "bernoulli", "latency"])
def test_records_penalties_and_noise_are_the_same(encoder):
    own, twin = network(encoder=encoder), network(encoder=encoder)
    found = train_once(recomputed(observe(twin, IMAGES)), twin)
    assert_same(found, train_once(observe(own, IMAGES), own))
    assert len(found[1]) > 10, "records were compared"


def test_fused_kernels_are_run_again_alike():
    own, twin = network(), network()
    found = train_once(recomputed(fused(observe(twin, IMAGES))), twin)
    assert_same(found, train_once(fused(observe(own, IMAGES)), own))


def test_random_numbers_after_a_step_are_the_same():
    own, twin = network(encoder="bernoulli"), network(encoder="bernoulli")
    after = []
    for model, holder in ((own, own), (recomputed(twin), twin)):
        train_once(model, holder)
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_batch_norm_counts_every_batch_once():
    net = network()
    for _ in range(3):
        train_once(recomputed(net), net)
    assert [int(b) for name, b in net.named_buffers() if "tracked" in name] == [3, 3, 3]


def test_buffers_that_forward_changes_are_as_they_were():
    class Drifting(nn.Module):
        step: Tensor

        def __init__(self):
            super().__init__()
            self.register_buffer("step", torch.ones(()))

        def forward(self, x):
            self.step += 1
            return torch.tanh(x * self.step)

    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 5), Drifting(), nn.Linear(5, 10))

    own, twin = model(), model()
    expected = train_once(own, own, torch.rand(6, 5, generator=torch.Generator().manual_seed(1)))
    graph = recomputed(twin)
    assert_same(train_once(graph, twin, torch.rand(6, 5, generator=torch.Generator().manual_seed(1))), expected)


def test_under_autocast_with_membranes_in_half_precision():
    def step(model, own):
        with torch.autocast("cpu", torch.bfloat16), membranes_saved_in(torch.bfloat16):
            scores = model(IMAGES)
        scores.float().square().sum().backward()  # outside of both contexts
        return scores, [], [p.grad for p in own.parameters()], list(own.buffers())

    own, twin = network(), network()
    assert_same(step(recomputed(twin), twin), step(own, own))


def test_evaluation_and_no_grad_run_the_model_itself():
    net = network()
    model = recomputed(net)
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    model(IMAGES)
    assert calls == []
    with torch.no_grad():
        model(IMAGES)
    model.eval()(IMAGES)
    assert calls == [1, 1] and not net.training


def test_parameters_and_state_are_those_of_the_model():
    net = network()
    model = recomputed(net)
    assert [id(p) for p in model.parameters()] == [id(p) for p in net.parameters()]
    assert model.model.state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize("follow", [trace, lambda model: observe(model, IMAGES)])
def test_the_wrong_order_says_the_right_one(follow):
    with pytest.raises(BadInput, match=r"observe first: recomputed\(observe\(model, example\)\)"):
        follow(recomputed(network()))


def test_wrong_images_are_refused_as_before():
    with pytest.raises(BadInput, match="expected images"):
        recomputed(network())(torch.rand(2, 3, 8, 8))


class Live(TorchDispatchMode):
    """Bytes of all tensors made inside that are alive: the most there ever were."""

    def __init__(self):
        super().__init__()
        self.peak, self._storages = 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                ref = StorageWeakRef(storage)
                self._storages[ref.cdata] = ref, storage.nbytes()
        self._storages = {key: value for key, value in self._storages.items() if not value[0].expired()}
        self.peak = max(self.peak, self.now())
        return out

    def now(self):
        return sum(size for ref, size in self._storages.values() if not ref.expired())


def memory(model, x):
    """Bytes alive after forward, and the most there were in the whole step."""
    gc.collect()
    with Live() as live:
        out = model(x)
        kept = live.now()
        out.sum().backward()
    return kept, live.peak


def deep():
    torch.manual_seed(0)
    blocks = [Residual(nn.Sequential(*convolution(8, 8), *convolution(8, 8))) for _ in range(4)]
    parts = [AddTime(), Repeat(4), *convolution(1, 8), *blocks, nn.Flatten(2), nn.Linear(8 * 64, 10), MeanReadout()]
    return pj.Network(nn.Sequential(*parts), SHAPE, 10)


def test_memory_of_a_deep_network_is_half():
    x = torch.rand(32, *SHAPE)
    kept, peak = memory(deep(), x)
    kept_less, lower_peak = memory(recomputed(deep()), x)
    assert kept_less < 0.4 * kept and lower_peak < 0.5 * peak


def test_bytes_of_saved_tensors_are_what_enters_the_layers():
    x = torch.rand(32, *SHAPE)

    def saved_by(model):
        found = {}

        def pack(tensor):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model(x)
        parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        del out
        return sum(size for key, (size, _) in found.items() if key not in parameters)

    weights_see = 32 * 4 * 4 * (8 * 64 * 9)  # T * B * bytes of the inputs of nine of ten layers
    assert saved_by(recomputed(deep())) < 1.25 * weights_see < 0.5 * saved_by(deep())


def sequence_model():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 32), pj.LIF(), nn.Linear(32, 32), pj.CubaLIF(learn_decay=True)]
    return nn.Sequential(*layers, nn.Linear(32, 10), MeanReadout())


@pytest.mark.parametrize("segments", [1, 3, 20, 99])
def test_segments_of_a_sequence_give_the_same_gradients(segments):
    x = torch.randn(20, 6, 3, generator=torch.Generator().manual_seed(2))
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    own, twin = sequence_model(), sequence_model()
    found = train_once(recomputed_over_time(twin, segments), twin, mine)
    expected = train_once(own, own, other)
    torch.testing.assert_close(found[0], expected[0])
    for a, b in zip([*found[2], mine.grad], [*expected[2], other.grad], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encoder", ["constant-current", "bernoulli", "latency"])
@pytest.mark.parametrize("name", ["spiking-rnn"])
def test_segments_of_a_network_of_images(encoder, name):
    own, twin = network(name, encoder, 7), network(name, encoder, 7)
    found, expected = train_once(recomputed_over_time(twin, 3), twin), train_once(own, own)
    torch.testing.assert_close(found[0], expected[0])
    for a, b in zip(found[2], expected[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_memory_over_time_is_that_of_one_segment():
    x = torch.randn(256, 8, 3)
    _, peak = memory(sequence_model(), x)
    _, lower = memory(recomputed_over_time(sequence_model(), 16), x)
    assert lower < 0.25 * peak


def test_segments_refuse_batch_statistics_and_observed_models():
    with pytest.raises(BadInput, match=r"norm2 \(BatchNorm2d\) needs the statistics of all time steps"):
        recomputed_over_time(network(), 2)(IMAGES)
    net = copy.deepcopy(network())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.eval()
    recomputed_over_time(net, 2)(IMAGES)  # flags are those of the norms, frozen ones are no obstacle
    with pytest.raises(BadInput, match="an observed model cannot run in segments"):
        recomputed_over_time(observe(network(), IMAGES), 2)
    with pytest.raises(BadInput, match="at least one segment, got 0"):
        recomputed_over_time(network(), 0)
