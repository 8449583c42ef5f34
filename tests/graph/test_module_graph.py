"""Any model as a graph of layers: the same numbers, every operation a module, nothing of the model changed."""

import operator
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picojoule.errors import BadInput, UntraceableModel
from picojoule.exchange import load, save
from picojoule.graph import module_graph
from picojoule.layers import Timewise
from picojoule.networks import Definition, Network, build

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def layers(graph) -> Counter[str]:
    called = graph.graph.find_nodes(op="call_module")
    return Counter(type(graph.get_submodule(str(node.target))).__name__ for node in called)


def functions(graph) -> list[object]:
    return [n.target for n in graph.graph.nodes if n.op in ("call_function", "call_method", "get_attr")]


def assert_equal(model: nn.Module, images: torch.Tensor = IMAGES):
    """The graph of a model, which gives the same for several numbers of samples and is not slowed by flags."""
    training = [m.training for m in model.modules()]
    graph = module_graph(model, images)
    assert [m.training for m in model.modules()] == training and not any(m.training for m in graph.modules())
    model.eval()
    for batch in (images, images[:1], images[1:], torch.cat([images, images + 0.1])):
        with torch.no_grad():
            torch.testing.assert_close(graph(batch.clone()), model(batch.clone()), rtol=1e-5, atol=1e-5)
    for node in graph.graph.nodes:
        if node.op == "call_module":
            assert getattr(graph.get_submodule(str(node.target)), "inplace", False) is False
    calls = [str(n.target) for n in graph.graph.nodes if n.op == "call_module"]
    assert len(calls) == len(set(calls))
    return graph


class Foreign(nn.Module):
    """What published models do: functional and shared ReLU, residual, concat, depthwise, grouped, dilated, pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.mix = nn.Conv2d(16, 12, 1)
        self.fc1, self.fc2 = nn.Linear(12 * 9, 20), nn.Linear(20, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.relu(self.norm(self.depthwise(x)))
        y = self.relu(y + self.grouped(x))
        x = F.max_pool2d(torch.cat([x, y], dim=1), 2)
        x = F.relu(self.mix(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 3)
        x = F.dropout(x.view(x.size(0), -1), 0.5, self.training)
        return self.fc2(self.relu(self.fc1(x)))


def test_a_foreign_model():
    model = Foreign()
    graph = assert_equal(model)
    kinds = layers(graph)
    assert kinds["ReLU"] == 5 and kinds["MaxPool2d"] == kinds["AdaptiveAvgPool2d"] == kinds["Flatten"] == 1
    assert functions(graph) == [operator.add, torch.cat]
    assert model.stem[2].inplace and graph.get_parameter("fc1.weight") is model.fc1.weight
    assert {"stem.0", "relu", "relu_1", "relu_2", "max_pool2d"} <= {str(n.target) for n in graph.graph.nodes}


def test_a_foreign_model_becomes_a_network_and_is_saved(tmp_path):
    network = Network(assert_equal(Foreign()), (3, 16, 16), 5).eval()
    save(network, tmp_path / "model.safetensors")
    assert torch.equal(load(tmp_path / "model.safetensors")(IMAGES), network(IMAGES))


class Functional(nn.Module):
    def __init__(self, function, kinds):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.function, self.kinds = function, kinds

    def forward(self, x):
        return self.function(self.conv(x))


OPERATIONS: dict[str, tuple[Any, list[str]]] = {
    "torch.relu": (torch.relu, ["ReLU"]),
    "relu method": (lambda x: x.relu(), ["ReLU"]),
    "relu_ method": (lambda x: x.relu_(), ["ReLU"]),
    "F.relu_": (lambda x: F.relu_(x) + 1, ["ReLU", "BatchNorm2d"]),
    "relu6": (lambda x: F.relu6(x * 5), ["BatchNorm2d", "ReLU6"]),
    "clamp to 6": (lambda x: torch.clamp(x * 5, 0, 6), ["BatchNorm2d", "ReLU6"]),
    "clamp from 0": (lambda x: x.clamp(min=0), ["ReLU"]),
    "clamp_min": (lambda x: x.clamp_min(0.0), ["ReLU"]),
    "clamp between": (lambda x: x.clip(-0.1, 0.1), ["Hardtanh"]),
    "hardtanh": (lambda x: F.hardtanh(x, 0, 0.3), ["Hardtanh"]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), ["LeakyReLU"]),
    "elu": (lambda x: F.elu(x, 0.5), ["ELU"]),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), ["GELU"]),
    "silu": (F.silu, ["SiLU"]),
    "sigmoid": (lambda x: x.sigmoid(), ["Sigmoid"]),
    "tanh": (torch.tanh, ["Tanh"]),
    "hardswish": (F.hardswish, ["Hardswish"]),
    "softmax": (lambda x: F.softmax(x, dim=1), ["Softmax"]),
    "softmax method": (lambda x: x.softmax(-3), ["Softmax"]),
    "log_softmax": (lambda x: F.log_softmax(x, 1), ["LogSoftmax"]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), ["MaxPool2d"]),
    "torch.max_pool2d": (lambda x: torch.max_pool2d(x, 2), ["MaxPool2d"]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), ["AvgPool2d"]),
    "avg_pool2d of all": (lambda x: F.avg_pool2d(x, x.size()[2:]), ["AvgPool2d"]),
    "avg_pool2d of all rows": (lambda x: F.avg_pool2d(x, x.shape[3]), ["AvgPool2d"]),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), ["AdaptiveAvgPool2d"]),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 2), ["AdaptiveMaxPool2d"]),
    "mean": (lambda x: x.mean((2, 3)), ["AdaptiveAvgPool2d", "Flatten"]),
    "mean kept": (lambda x: torch.mean(x, dim=[-1, -2], keepdim=True), ["AdaptiveAvgPool2d"]),
    "mean twice": (lambda x: x.mean(3).mean(2), ["AdaptiveAvgPool2d", "Reshape", "AdaptiveAvgPool1d", "Flatten"]),
    "amax": (lambda x: x.amax((2, 3)), ["AdaptiveMaxPool2d", "Flatten"]),
    "flatten": (lambda x: torch.flatten(x, 1), ["Flatten"]),
    "flatten method": (lambda x: x.flatten(2), ["Reshape"]),
    "view": (lambda x: x.view(x.size(0), -1), ["Flatten"]),
    "view by shape": (lambda x: x.view(-1, x.shape[1] * x.shape[2] * x.shape[3]), ["Flatten"]),
    "reshape": (lambda x: x.reshape(len(x) if False else x.shape[0], 2, 2, 14, 14), ["Reshape"]),
    "shuffle": (
        lambda x: x.view(x.shape[0], 2, 2, 14, 14).transpose(1, 2).contiguous().view(x.shape),
        ["Reshape", "Permute", "Reshape"],
    ),
    "permute": (lambda x: x.permute(0, 2, 3, 1), ["Permute"]),
    "squeeze": (lambda x: x.amax((2, 3), True).squeeze(-1).squeeze(-1), ["AdaptiveMaxPool2d", "Reshape", "Flatten"]),
    "first of one": (lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0], ["AdaptiveAvgPool2d", "Flatten"]),
    "crop": (lambda x: x[:, :, 1:-2, 3:], ["Crop2d"]),
    "crop of dots": (lambda x: x[..., 2:], ["Crop2d"]),
    "a pixel": (lambda x: x[:, :, 2, -1], ["Crop2d", "Flatten"]),
    "channels": (lambda x: x[:, 1:3], ["ZeroPad3d"]),
    "channels of rows": (lambda x: x[:, 1:, 2:5], ["ZeroPad3d"]),
    "a channel": (lambda x: x[:, -1], ["ZeroPad3d", "Reshape"]),
    "features": (lambda x: x.amax((2, 3))[:, 1:3], ["AdaptiveMaxPool2d", "Flatten", "ZeroPad1d"]),
    "chunk": (lambda x: x.chunk(2, 1)[1], ["ZeroPad3d"]),
    "split": (lambda x: x.split([1, 3], dim=1)[1], ["ZeroPad3d"]),
    "split by size": (lambda x: x.split(dim=1, split_size=x.shape[1] // 2)[0], ["ZeroPad3d"]),
    "torch.split": (lambda x: torch.split(x, 5, 2)[2], ["Crop2d"]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), ["PixelShuffle"]),
    "every second": (lambda x: x[:, :, ::2, 1::2], ["Crop2d", "MaxPool2d"]),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3)), ["ZeroPad2d"]),
    "pad by less": (lambda x: F.pad(x, (-1, 2)), ["ZeroPad2d", "Crop2d"]),
    "pad channels": (lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)), ["MaxPool2d", "ZeroPad3d"]),
    "dropout": (lambda x: F.dropout(x, 0.3, training=False), ["Dropout"]),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), ["Upsample"]),
    "bilinear": (lambda x: F.interpolate(x, size=(20, 9), mode="bilinear", align_corners=True), ["Upsample"]),
    "normalise": (lambda x: (x - 0.5) / 0.25, ["BatchNorm2d", "BatchNorm2d"]),
    "one minus": (lambda x: 1 - x, ["BatchNorm2d"]),
    "scale": (lambda x: torch.mul(2.0, x), ["BatchNorm2d"]),
    "identities": (lambda x: x.contiguous().clone().detach().float().relu(), ["ReLU"]),
}


EXPORTED: dict[str, list[str]] = {  # ATen takes one axis at a time
    "first of one": ["AdaptiveAvgPool2d", "Reshape", "Flatten"],
    "crop": ["Crop2d", "Crop2d"],
    "a pixel": ["Crop2d", "Reshape", "ZeroPad2d", "Flatten"],
    "channels of rows": ["ZeroPad3d", "Crop2d"],
    "every second": ["MaxPool2d", "Crop2d", "MaxPool2d"],
    "pad channels": ["MaxPool2d", "MaxPool2d", "ZeroPad3d"],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_functions_and_methods_become_layers(name):
    function, kinds = OPERATIONS[name]
    graph = assert_equal(Functional(function, kinds))
    assert [type(m).__name__ for m in graph.modules() if not any(True for _ in m.children())] == ["Conv2d", *kinds]
    assert functions(graph) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_exported_operations_become_the_same_layers(name):
    function, kinds = OPERATIONS[name]

    class Checked(Functional):
        def forward(self, x):
            assert x.shape[1] == 3
            return super().forward(x)

    graph = assert_equal(Checked(function, kinds))
    kinds = EXPORTED.get(name, kinds)
    assert [type(m).__name__ for m in graph.modules() if not any(True for _ in m.children())] == ["Conv2d", *kinds]
    assert functions(graph) == []


class Weights(nn.Module):
    """Weight layers by function, one of them used twice, and a layer whose weights are computed."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.slopes = nn.Parameter(torch.rand(4))
        self.shift = nn.Parameter(torch.randn(4, 1, 1))
        self.same = nn.Conv2d(4, 4, 3, padding=1)
        self.matrix = nn.Parameter(torch.randn(4, 5))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)

    def forward(self, x):
        centred = self.kernel - self.kernel.mean((1, 2, 3), keepdim=True)
        x = F.conv2d(x, self.kernel, None, 2) + F.conv2d(x, centred, stride=2, padding=0)
        x = F.prelu(self.same(self.same(x)), self.slopes) + self.shift
        x = F.batch_norm(x, self.mean, self.variance, eps=0.01)
        return x.mean((2, 3)) @ self.matrix


@pytest.mark.parametrize("loops", [False, True])
def test_weights_of_functions(loops):
    class Model(Weights):
        def forward(self, x):
            for _ in range(x.shape[1] if loops else 3):
                x = x * 0.9
            return super().forward(x)

    model = Model()
    graph = assert_equal(model)
    kinds = layers(graph)
    assert kinds["Conv2d"] == 4 and kinds["Linear"] == kinds["PReLU"] == 1 and kinds["BatchNorm2d"] == 5
    assert functions(graph) == [operator.add]
    owned = {id(p) for p in graph.parameters()}
    assert {id(model.kernel), id(model.slopes), id(model.same.weight)} <= owned


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.relu = nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv2(self.relu(self.norm1(self.conv1(x))))
        y += x
        return self.relu(y)


class Checked(nn.Module):
    """Asserts on shapes and unpacks them, so that torch.fx refuses."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.block = Residual(8)
        self.fc = nn.Linear(8 * 4, 5)

    def forward(self, x):
        assert x.dim() == 4 and x.shape[2] == x.shape[3], "square images"
        x = self.block(F.relu(self.norm(self.stem(x))))
        x = F.avg_pool2d(x, 4)
        return self.fc(x.view(x.shape[0], -1))


def test_export_where_fx_refuses():
    model = Checked()
    graph = assert_equal(model)
    assert layers(graph) == Counter(Conv2d=3, BatchNorm2d=2, ReLU=3, AvgPool2d=1, Flatten=1, Linear=1)
    assert functions(graph) == [operator.add]
    names = {str(n.target) for n in graph.graph.nodes if n.op == "call_module"}
    assert {"stem", "norm", "relu", "block.conv1", "block.norm1", "block.relu", "block.relu_1", "fc"} <= names
    assert graph.get_parameter("block.conv1.weight") is model.block.conv1.weight
    assert graph.get_buffer("norm.running_mean") is model.norm.running_mean


@pytest.mark.parametrize(
    "loop",
    [
        lambda net, x: torch.cat([net.head(net.body(x[i : i + 1]).mean((2, 3))) for i in range(x.shape[0])]),
        lambda net, x: torch.stack([net.head(net.body(x[i]).mean((1, 2))) for i in range(x.shape[0])]),
        lambda net, x: torch.stack([net.head(net.body(one).relu_().amax((1, 2))) for one in x]),
        lambda net, x: torch.cat([net.head(net.body(one.unsqueeze(0)).flatten(2).mean(2)) for one in x], 0),
        lambda net, x: torch.cat([net.head(F.adaptive_avg_pool2d(net.body(one), 1).view(1, -1)) for one in x]),
        lambda net, x: torch.stack([net.head(net.body(one.transpose(1, 2)).softmax(0).mean((-1, 1))) for one in x]),
    ],
)
def test_a_loop_over_the_samples_is_undone(loop):
    class Loops(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            return loop(self, x)

    graph = assert_equal(Loops())
    assert layers(graph)["Conv2d"] == layers(graph)["Linear"] == 1 and functions(graph) == []


def test_a_change_in_place_is_seen_by_later_readers():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv(x)
            y = self.relu(x)
            x += 1
            return x + y

    assert layers(assert_equal(InPlace()))["ReLU"] == 1


@pytest.mark.parametrize(
    "forward, words",
    [
        (lambda conv, x: conv(x) * (1 if x.sum() > 0 else 2), "test_module_graph.py"),
        (lambda conv, x: torch.cat([conv(x[i : i + 1]) * i for i in range(x.shape[0])]), "samples"),
        (lambda conv, x: conv(x) - conv(x).mean(0) if x.shape[0] > 1 else conv(x), "samples"),
        (lambda conv, x: F.dropout(conv(x)), "random"),
        (lambda conv, x: (conv(x), x), "returns a tuple"),
        (lambda conv, x: conv(x[:, :2]), "cannot take inputs of shape"),
    ],
)
def test_what_cannot_be_followed_is_refused(forward, words, capfd):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return forward(self.conv, x)

    with pytest.raises(BadInput, match=words) as caught:
        module_graph(Model(), IMAGES)
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UntraceableModel) or "Model" in str(caught.value)


def test_the_line_that_depends_on_the_images_is_named():
    """Export follows the branch on the number of samples, at which fx stops."""

    class Model(nn.Module):
        def forward(self, x):
            if x.shape[0] == 0:
                return x
            if x.max() > 100:
                x = x / 255
            return x.flatten(1)

    with pytest.raises(UntraceableModel, match=r"numbers in a tensor decide .*: if x.max\(\) > 100:\); write its"):
        module_graph(Model(), IMAGES)


@pytest.mark.parametrize("inside", [False, True])
def test_a_scripted_module_is_not_read(inside):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        model: nn.Module = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    model, name = (nn.Sequential(model, nn.Flatten()), "0") if inside else (model, "the model")
    with pytest.raises(UntraceableModel, match=f"^{name} is a scripted or jit-traced module"):
        module_graph(model, IMAGES)


def test_unknown_operations_stay():
    graph = assert_equal(Functional(lambda x: torch.sin(x).relu(), []))
    assert functions(graph) == [torch.sin] and layers(graph)["ReLU"] == 1


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Conv2d(3, 4, 3)
    setattr(model, "scaled", model.weight * 2)  # noqa: B010
    with pytest.raises(BadInput, match="cannot be copied"):
        module_graph(model, IMAGES)


@pytest.mark.parametrize("name", ["cnn7", "vgg11", "resnet20"])
def test_our_networks_stay_as_they_are(name):
    network = build(Definition(name, (3, 32, 32), 10), nn.ReLU)
    graph = assert_equal(network, torch.rand(2, 3, 32, 32))
    own = network.graph_module
    assert [str(n.target) for n in graph.graph.nodes] == [str(n.target) for n in own.graph.nodes]
    for node in own.graph.find_nodes(op="call_module"):
        a, b = (g.get_submodule(str(node.target)) for g in (graph, own))
        assert type(a) is type(b) and (not isinstance(a, Timewise) or type(a.layer) is type(b.layer))  # pyright: ignore


def test_an_example_without_samples_is_refused():
    for example in (torch.zeros(0, 3, 16, 16), torch.zeros(3)):
        with pytest.raises(BadInput, match="at least one sample"):
            module_graph(Foreign(), example)
