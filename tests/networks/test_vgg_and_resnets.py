import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from picojoule.energy import count
from picojoule.energy.penalties import dense_accumulates
from picojoule.errors import BadInput
from picojoule.exchange import load, save
from picojoule.execution import fused
from picojoule.execution.fused_part import Fused
from picojoule.graph import observe
from picojoule.kinds import Events
from picojoule.networks import Activation, Definition, Network, build
from picojoule.networks.resnet import ResidualBlock
from picojoule.neurons import LIF

NAMES = ("vgg11", "resnet18", "resnet20")


def _build(name: str, activation: Activation = LIF, side: int = 32, **settings) -> Network:
    torch.manual_seed(0)
    network = build(Definition(name, (3, side, side), 10, **settings), activation)
    for module in network.modules():  # norms that are not the identity, with neurons that fire
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.uniform_(module.bias, 0.2, 0.6)
            module.running_var.fill_(0.2)  # pyright: ignore[reportOptionalMemberAccess]
    return network


def _images(batch: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name, layers, hidden, every",
    [
        ("vgg11", 9, 112_628_736, 114_325_248),
        ("resnet18", 21, 480_162_816, 481_859_328),
        ("resnet20", 22, 36_795_520, 37_219_648),
    ],
)
def test_dense_operations_on_32_by_32(name, layers, hidden, every):
    """Exact at the borders, one event from each neuron.

    Behind global average pooling every event before the pool is an accumulate in each class, not one per pooled cell:
    the last layer of a spiking ResNet has as many times more of them as a pooled cell has neurons.
    """
    x = _images(1)
    with torch.no_grad():
        analog = count(observe(_build(name, nn.ReLU).eval(), x)(x)[1])
        _, activity = observe(_build(name).eval(), x)(x)
    spiking = count(activity)
    assert len(analog.layers) == layers and float(analog.total("dense_macs")) == every
    assert float(spiking.total("dense_macs")) == float(analog.per_layer("dense_macs")[0]) == every - hidden
    last = float(analog.per_layer("dense_macs")[-1])
    cells = {"vgg11": 1, "resnet18": 4 * 4, "resnet20": 8 * 8}[name]
    assert float(spiking.per_layer("dense_acs")[-1]) == last * cells
    assert dense_accumulates(activity) == float(spiking.total("dense_acs")) == hidden + last * (cells - 1)


def test_average_pooling_costs_vgg_more():
    x = _images(1)
    with torch.no_grad():
        costs = [count(observe(_build("vgg11", pool=pool).eval(), x)(x)[1]) for pool in ("max", "avg")]
    pooled = torch.tensor([1, 4, 4, 1, 4, 1, 4, 1, 4])  # the layers whose input was pooled
    assert torch.equal(costs[0].per_layer("dense_acs") * pooled, costs[1].per_layer("dense_acs"))


@pytest.mark.parametrize(
    "name, parameters",
    [
        *[("vgg11", 9_228_362), ("resnet18", 11_173_962), ("resnet20", 272_474)],
        *[("vgg16", 14_987_210), ("vgg16-4096", 33_642_442)],
    ],
)
def test_number_of_parameters(name, parameters):
    assert sum(p.numel() for p in _build(name).parameters()) == parameters


@pytest.mark.parametrize("name, parameters", [("vgg11", 9_264_212), ("vgg16", 15_778_772), ("vgg16-4096", 39_974_868)])
def test_vgg_on_64_by_64_has_a_wider_head(name, parameters):
    """Maps of 2 x 2 are left: the first dense layer takes 2048 features instead of 512."""
    network = build(Definition(name, (3, 64, 64), 20), nn.ReLU).eval()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network(_images(side=64)).shape == (2, 20)


def test_layers_have_the_names_that_reports_show():
    x = _images(1)
    vgg, resnet = (observe(_build(name).eval(), x) for name in ("vgg11", "resnet20"))
    assert [site.name for site in vgg.sites] == [*(f"conv{i}" for i in range(1, 9)), "fc9"]
    names = [f"block{i}.{layer}" for i in range(1, 10) for layer in ("conv1", "conv2")]
    for block in (4, 7):
        names.insert(names.index(f"block{block}.conv2"), f"block{block}.downsample.conv")
    assert [site.name for site in resnet.sites] == ["conv1", *names, "fc2"]
    assert not vgg.uncounted and not resnet.uncounted
    with torch.no_grad():
        populations = [n.name for n in resnet(x)[1].neurons]
    blocks = [f"block{i}.activation{j}" for i in range(1, 10) for j in (1, 2)]
    assert populations == ["lif1", *blocks]


@pytest.mark.parametrize("channels, stride", [(8, 1), (4, 1), (8, 2)])
def test_a_block_adds_currents(channels, stride):
    torch.manual_seed(0)
    block = ResidualBlock(channels, 8, stride, LIF).eval()
    assert (block.downsample is None) == (channels == 8 and stride == 1)
    spikes = (torch.rand(3, 2, channels, 6, 6) < 0.4).float()

    def timewise(layer, x):
        return torch.stack([layer.layer(step) for step in x])

    inner = LIF()(timewise(block.norm1, timewise(block.conv1, spikes)))
    current = timewise(block.norm2, timewise(block.conv2, inner))
    shortcut = spikes
    if block.downsample is not None:
        shortcut = timewise(block.downsample[1], timewise(block.downsample[0], spikes))
    assert torch.equal(block(spikes), LIF()(current + shortcut))
    assert set(block(spikes).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_events_stay_binary_and_enter_every_hidden_layer(name):
    x = _images()
    observed = observe(_build(name, timesteps=2).eval(), x)
    assert all(isinstance(site.kind, Events) for site in observed.sites[1:])
    assert all(site.kind == Events(most=1) for site in observed.sites[1:-1])
    with torch.no_grad():
        _, activity = observed(x)
    for population in activity.neurons:
        assert 0 < float(population.events.sum()) < population.events.numel() * 2 * len(x), population.name


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
@pytest.mark.parametrize("side", [7, 8, 12])
def test_the_last_pool_spans_the_whole_map(name, side):
    network = _build(name, side=side).eval()
    seen = []
    network.graph_module.get_submodule("pool1").register_forward_hook(lambda m, x, y: seen.append((x[0], y)))
    assert network(_images(side=side)).shape == (2, 10)
    ((maps, pooled),) = seen
    assert pooled.shape[-2:] == (1, 1)
    torch.testing.assert_close(pooled[0], avg_pool2d(maps[0], tuple(maps.shape[-2:])))


def test_the_stem_runs_once():
    network = _build("resnet20", timesteps=5)
    steps = []
    for name in ("conv1", "block1.conv1"):
        network.graph_module.get_submodule(name).register_forward_hook(lambda m, x, y: steps.append(len(y)))
    network(_images())
    assert steps == [1, 5]


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded(name, tmp_path):
    network = _build(name, timesteps=2).eval()
    save(network, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    x = _images()
    assert torch.equal(loaded(x), network(x))
    assert torch.equal(loaded.with_timesteps(3)(x), network.with_timesteps(3)(x))
    assert loaded.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_advance_in_pieces_equals_the_whole(name):
    network = _build(name, timesteps=3).double().eval()
    x = _images(1).double()
    state, scores = network.initial_state(1), None
    for steps in (1, 2):
        scores, state = network.with_timesteps(steps).advance(x, state)
    torch.testing.assert_close(scores, network(x))
    assert len(state) == 1 + len([m for m in network.modules() if isinstance(m, LIF)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_fused(name, pool):
    """The same scores, and the same counts, from compiled parts."""
    network = _build(name, timesteps=2, pool=pool).eval()
    x = _images()
    quick = fused(network)
    neurons = [m for m in network.modules() if isinstance(m, LIF)]
    assert sum(isinstance(m, Fused) for m in quick.modules()) >= len(neurons) // 2
    observed = observe(network, x)
    with torch.no_grad():
        torch.testing.assert_close(quick(x), network(x), rtol=1e-4, atol=1e-4)
        counts = [count(model(x)[1]).total("acs") for model in (observed, fused(observed))]
    torch.testing.assert_close(counts[1], counts[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_has_a_gradient(name):
    network = _build(name, timesteps=2).train()
    nn.functional.cross_entropy(network(_images(4)), torch.tensor([1, 2, 3, 4])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("side, poolings", [(16, 5), (31, 5)])
def test_images_too_small_for_vgg(side, poolings):
    with pytest.raises(BadInput, match=f"an image side of {side} pixels is too small for {poolings} poolings by 2"):
        _build("vgg11", side=side)


@pytest.mark.parametrize("name, hidden", [("vgg16", 1), ("vgg16-4096", 2)])
def test_dropout_is_a_share_of_the_published_rates(name, hidden):
    network = build(Definition(name, (3, 32, 32), 10, pool="avg", dropout=0.5), nn.ReLU)
    rates = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert rates == pytest.approx([0.15] + [0.2] * 10 + [0.25] * (1 + hidden))
    assert not any(isinstance(m, nn.Dropout) for m in build(Definition(name, (3, 32, 32), 10), nn.ReLU).modules())


@pytest.mark.parametrize("name, dropout", [("vgg11", 0.5), ("vgg16", 1.5), ("vgg16", -0.1)])
def test_dropout_is_refused_where_it_means_nothing(name, dropout):
    with pytest.raises(BadInput, match="dropout"):
        build(Definition(name, (3, 32, 32), 10, dropout=dropout), nn.ReLU)
