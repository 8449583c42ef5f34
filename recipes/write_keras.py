"""Write a trained ANN of ours as a `.keras` file, by Keras itself, to convert it as the file of somebody else.

Needs Keras on its torch backend (`pip install 'picojoule[dev]'`):

    KERAS_BACKEND=torch python recipes/write_keras.py runs/vgg16-cpu/runs/ann_seed-0/model.safetensors vgg16.keras
    picojoule convert vgg16.keras --data cifar10-fair --timesteps 32 --normalisation mmse --per-channel
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise

SILENT = (AddTime, MeanReadout, Repeat, nn.Dropout)


def keras_model(network: pj.Network) -> Any:
    """The network as a Keras model, channels last. Raises BadInput for anything but a chain of known layers."""
    import keras

    channels, height, width = network.input_shape
    made: Any = keras.Sequential([keras.Input((height, width, channels))])
    shape: tuple[int, ...] = network.input_shape
    flattened: tuple[int, ...] | None = None
    for name, module in network.graph_module.named_children():
        layer = module.layer if isinstance(module, Timewise) else module
        if isinstance(layer, SILENT):
            continue
        weights: list[Tensor] = []
        if isinstance(layer, nn.Conv2d):
            if layer.stride != (1, 1) or layer.padding != tuple(size // 2 for size in layer.kernel_size):
                raise pj.BadInput(f"{name}: expected a convolution that keeps the size of its images, got {layer}")
            options = {"use_bias": layer.bias is not None, "padding": "same", "name": name}
            made.add(keras.layers.Conv2D(layer.out_channels, layer.kernel_size, **options))
            weights = [layer.weight.permute(2, 3, 1, 0)]
        elif isinstance(layer, nn.Linear):
            made.add(keras.layers.Dense(layer.out_features, use_bias=layer.bias is not None, name=name))
            rows = layer.weight
            if flattened is not None:
                rows = rows.unflatten(1, flattened).permute(0, 2, 3, 1).flatten(1)
            weights, flattened = [rows.T], None
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            made.add(keras.layers.BatchNormalization(epsilon=layer.eps, name=name))
            weights = [layer.weight, layer.bias, layer.running_mean, layer.running_var]  # pyright: ignore
        elif isinstance(layer, nn.ReLU):
            made.add(keras.layers.ReLU(name=name))
        elif isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            kind = keras.layers.AveragePooling2D if isinstance(layer, nn.AvgPool2d) else keras.layers.MaxPooling2D
            made.add(kind(layer.kernel_size, layer.stride, name=name))
        elif isinstance(layer, nn.Flatten):
            flattened = shape
            made.add(keras.layers.Flatten(name=name))
        else:
            raise pj.BadInput(f"{name}: a {type(layer).__name__} has no counterpart here; give a chain of convolutions")
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            weights.append(layer.bias)
        if weights:
            made.layers[-1].set_weights([w.detach().numpy() for w in weights])
        if not isinstance(layer, nn.Flatten):
            *size, last = made.output_shape[1:]
            shape = (last, *size)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    network = pj.load(arguments.model).eval()
    made = keras_model(network)
    made.save(arguments.out)
    images = torch.rand(64, *network.input_shape)
    with torch.no_grad():
        off = (pj.load(arguments.out).eval()(images) - network(images)).abs().max()
    print(f"{arguments.out}: read back, the outputs differ by at most {float(off):.1e}")


if __name__ == "__main__":
    main()
