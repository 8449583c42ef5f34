"""The published one-step networks: window-recurrent spiking mixers in four stages."""

import math

import torch
from torch import Tensor, nn

from picojoule.cells import WindowConvolution, WindowLSTM
from picojoule.errors import BadInput
from picojoule.layers import Permute, Reshape, Scale, Shift, Timewise
from picojoule.layers.windows import half_window, wide_window
from picojoule.networks.definition import Definition, mixer_shape
from picojoule.networks.parts import Activation, encoded, readout
from picojoule.neurons import Neuron, WindowNeuron

LAST_GRID = 2
EXPANSION = 3
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of colour images, by channel (the defaults of torchvision and timm)."""
TRUNCATED_DEVIATION = 0.87962566103423978
"""Of a normal distribution with deviation 1 that is cut at -2 and 2."""
_CELLS = {"cnn": WindowConvolution, "rnn": WindowLSTM}


def window_mixer(d: Definition, activation: Activation) -> list[nn.Module]:
    """`mixer-cnn` and `mixer-rnn`: stem of 2 x 2 patches, stages that halve the grid down to 2 x 2, FC(classes).

    Every block adds a spiking window mixer and a real-valued MLP to a stream of real values; there is no norm. The
    published networks take 32 x 32: widths 48, 96, 192, 384, with 2, 2, 6, 2 blocks. Smaller images are enlarged to
    16 x 16 (bilinear, three stages) or padded with zeros to 32 x 32; larger ones get 16 x 16 larger patches. Colours
    are standardised by IMAGENET_MEAN and IMAGENET_DEVIATION, other images by the statistics of the training data.
    `activation` makes WindowNeurons, LIFs (decay, threshold and surrogate are used), or ReLUs for the analog twin.
    Raises BadInput for images that are not square or do not divide into patches.

    Source: reconstructed from the code that Yao et al. 2023 published with arXiv 2401.10843; other sizes are ours.
    """
    if d.readout == "spike-count" and not isinstance(activation(), Neuron):
        raise BadInput(
            f"the readout spike-count needs a population behind the last layer, and {d.name} has none with these "
            "neurons; choose another readout, such as mean"
        )
    fitted, side = _fitted(d)
    patch = max(2, side // 16)
    made, width = _stages(d, activation, side // patch)
    stem, stages = nn.Conv2d(d.input_shape[0], mixer_shape(d.name)[1], patch, patch), MixerStages(made)
    scores = readout(d, width, activation)
    _initialise(stem)
    _initialise(stages)
    for last in scores:
        if isinstance(last, nn.Linear):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return [
        *encoded(d, [*fitted, Timewise(stem), Timewise(Permute(1, 2, 0))]),
        stages,
        Timewise(Permute(2, 0, 1)),
        Timewise(nn.AvgPool2d(LAST_GRID)),
        nn.Flatten(2),
        *scores,
    ]


class MixerBlock(nn.Module):
    """`x + linear(spikes of the mixer)`, then `x + MLP(x)`; a recurrent mixer's membranes are handed on beside x.

    `cell` None leaves the mixer out.
    """

    def __init__(self, width: int, cell: WindowConvolution | WindowLSTM | None):
        super().__init__()
        self.cell = cell
        if cell is not None:
            self.linear = nn.Linear(width * (2 if isinstance(cell, WindowLSTM) else 1), width)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))

    def forward(self, x: Tensor, handed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.cell, WindowLSTM):
            found = self.cell(x if handed is None else (x, handed))
            spikes, handed = found[0], found[1]
            x = x + self.linear(spikes)
        elif self.cell is not None:
            x = x + self.linear(self.cell(x))
        return x + self.mlp(x), handed


class PatchMerging(nn.Module):
    """2 x 2 neighbours of a map `[T, B, S, S, D]` side by side, and a linear layer without bias from 4 D to 2 D."""

    def __init__(self, grid: int, width: int):
        super().__init__()
        half = half_window(grid)
        shapes = (Reshape(half, 2, half, 2, width), Permute(0, 2, 3, 1, 4), Reshape(half, half, 4 * width))
        self.neighbours = nn.Sequential(*(Timewise(layer) for layer in shapes))
        self.linear = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.neighbours(x))


class MixerStage(nn.Module):
    """The blocks of one stage on a grid, and the merging of x and of handed membranes behind them, if not the last.

    Windows tile the grid; those of every second block overlap, but in the last stage. `first` numbers the blocks over
    all stages, so that each has noise of its own.
    """

    def __init__(self, d: Definition, activation: Activation, grid: int, width: int, depth: int, first: int):
        super().__init__()
        cell, last, mixer = mixer_shape(d.name)[0], grid == LAST_GRID, d.mixer
        self.blocks = nn.ModuleList()
        for index in range(depth):
            wide = mixer.overlap and index % 2 == 1 and not last
            side = grid if mixer.windows == 1 else wide_window(grid) if wide else half_window(grid)
            made = _CELLS[cell](
                width,
                grid,
                side,
                mixer.rules(first + index),
                neuron=WindowNeuron.like(activation()),
            )
            self.blocks.append(MixerBlock(width, made if mixer.on else None))
        self.merging = None if last else PatchMerging(grid, width)
        recurrent = cell == "rnn" and mixer.on
        self.handed_merging = PatchMerging(grid, 2 * width) if recurrent and not last else None

    def forward(self, x: Tensor, handed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x, handed = block(x, handed)
        if self.merging is not None:
            x = self.merging(x)
        if self.handed_merging is not None and handed is not None:
            handed = self.handed_merging(handed)
        return x, handed


class MixerStages(nn.Module):
    """All stages, from maps of side `grid` and `width` channels to those of side 2."""

    def __init__(self, stages: list[MixerStage]):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        handed = None
        for stage in self.stages:
            x, handed = stage(x, handed)
        return x


def _stages(d: Definition, activation: Activation, grid: int) -> tuple[list[MixerStage], int]:
    """The stages from a grid of this side down to LAST_GRID, and the width of the last."""
    _, width, depths = mixer_shape(d.name)
    stages: list[MixerStage] = []
    for depth in depths:
        first = sum(len(stage.blocks) for stage in stages)
        stages.append(MixerStage(d, activation, grid, width, depth, first))
        if grid == LAST_GRID:
            break
        grid, width = half_window(grid), 2 * width
    return stages, width


def _fitted(d: Definition) -> tuple[list[nn.Module], int]:
    """The layers that make images fit, and their side then. Raises BadInput."""
    channels, height, width = d.input_shape
    if height != width or height > 32 and height % 16:
        raise BadInput(
            f"expected square images of at most 32 pixels a side, or a multiple of 16, for {d.name}, "
            f"got {height} x {width}"
        )
    layers: list[nn.Module] = []
    if height < 16:
        layers.append(Timewise(nn.Upsample(size=(16, 16), mode="bilinear", align_corners=False)))
    elif 16 < height < 32:
        before = (32 - height) // 2
        after = 32 - height - before
        layers.append(Timewise(nn.ZeroPad2d((before, after, before, after))))
    if d.encoder in ("constant-current", "direct"):
        layers += _standardised(channels)
    return layers, max(height, 16 if height <= 16 else 32)


def _standardised(channels: int) -> list[nn.Module]:
    """Images with mean 0 and deviation 1, without which there is no stable training at the published rate."""
    if channels != 3:
        return [Timewise(nn.BatchNorm2d(channels, affine=False))]
    mean, deviation = (torch.tensor(c).reshape(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return [Scale(1 / deviation), Shift(-mean / deviation)]


def _initialise(module: nn.Module) -> None:
    """Convolutions LeCun normal, linear layers Xavier uniform, biases zero, those of the MLPs nearly; torch's LSTM."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            deviation = math.sqrt(1 / (part.weight[0].numel())) / TRUNCATED_DEVIATION
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
        if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    for block in (part for part in module.modules() if isinstance(part, MixerBlock)):
        for layer in block.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.bias, std=1e-6)
