"""Models that torch exported: the network read from the file equals torch and onnxruntime."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picojoule.exchange import load, save
from picojoule.exchange.door import open_model

pytest.importorskip("onnx", reason="the extra onnx is not installed")


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 30), nn.Linear(30, 10)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(x.size(0), -1))))


class ResidualNet(nn.Module):
    """A shared functional ReLU, a strided shortcut, global pooling by a mean."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.shortcut = nn.Conv2d(3, 8, 1, 2)
        self.fc = nn.Linear(8, 5)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        return self.fc(self.relu(y + 0.5).mean((2, 3)))


class Mixed(nn.Module):
    """Depthwise, grouped, dilated, concatenated, ceiling max-pool, adaptive pooling, normalised input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.head = nn.Conv2d(16, 6, 1)

    def forward(self, x):
        x = F.relu6(self.stem((x - self.mean) / 0.25))
        x = torch.cat([F.leaky_relu(self.depthwise(x), 0.2), self.grouped(x)], 1)
        x = self.head(self.pool(x))
        return F.softmax(F.adaptive_avg_pool2d(x, 1).flatten(1), 1)


class Shapes(nn.Module):
    """Channel shuffle, cropping, upsampling, transposed convolution, a constant bias and scale."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1)
        self.fc = nn.Linear(4 * 10 * 10, 3, bias=False)
        self.shift = nn.Parameter(torch.randn(3))
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x):
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        x = F.interpolate(x, scale_factor=2, mode="nearest")[:, :, 1:-2, 2:-1]
        x = F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=False)
        x = self.up(x * self.scale)
        return (self.fc(F.hardtanh(x, 0, 4).flatten(1)) + self.shift) / 2 - 1


def exported(model, example, path, **settings):
    settings = {"dynamo": False, "input_names": ["image"], "dynamic_axes": {"image": {0: "batch"}}} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter speaks of its successor
        torch.onnx.export(model.eval(), (example,), path, **settings)
    return path


def trained(model, example):
    """Norms that are not the identity."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(8, *example.shape[1:]))
    return model.eval()


def by_onnxruntime(path, x):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


MODELS = [(LeNet, (1, 28, 28)), (ResidualNet, (3, 16, 16)), (Mixed, (3, 17, 17)), (Shapes, (4, 8, 8))]


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
@pytest.mark.parametrize("kind, shape", MODELS, ids=[kind.__name__ for kind, _ in MODELS])
def test_equals_torch_and_onnxruntime(kind, shape, opset, tmp_path):
    torch.manual_seed(0)
    x = torch.rand(3, *shape)
    if kind is Shapes and opset < 11:
        pytest.skip("the exporter has no linear resize of half pixels before opset 11")
    model = trained(kind(), x)
    path = exported(model, x[:1], tmp_path / "model.onnx", opset_version=opset)
    network = open_model(path)
    assert network.input_shape == shape and not network.training
    with torch.no_grad():
        y = network(x)
        torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, by_onnxruntime(path, x), rtol=1e-4, atol=1e-5)
    save(network, tmp_path / "model.safetensors")
    torch.testing.assert_close(load(tmp_path / "model.safetensors")(x), y, rtol=0, atol=0)
