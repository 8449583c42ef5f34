"""Our general form of one-step networks: neurons of maps hand their membranes on from window to window."""

from math import isqrt

import torch
from torch import fx, nn

from picojoule.errors import BadInput, about
from picojoule.graph.passes import copied, replace_layers
from picojoule.graph.shapes import infer_shapes
from picojoule.graph.trace import module_of
from picojoule.kernels.lif.windows import check_windows
from picojoule.networks.network import Network
from picojoule.neurons import LIF, WindowLIF


def windowed(network: Network, windows: int = 4, projection: str = "sincos") -> Network:
    """A copy of a network in which every LIF or IAF population of maps is a `WindowLIF`.

    `windows` is a square number, such as 4 for 2 x 2. Populations without maps, and other neurons, stay as they are.
    Raises BadInput, naming the population, for maps that cannot be divided, and for `CubaLIF`; and where several
    windows find no population of maps.
    """
    if not isinstance(network, Network):
        raise BadInput(
            f"expected a picojoule Network, got {type(network).__name__}; wrap a module as in "
            "Network(module, (1, 28, 28), classes=10)"
        )
    across = isqrt(windows) if isinstance(windows, int) and windows > 0 else 0
    if not across or across**2 != windows:
        raise BadInput(f"expected a square number of windows on maps, such as 4 or 9, got {windows!r}")
    graph = copied(network.graph_module)
    like = next(network.parameters(), torch.zeros(()))
    infer_shapes(graph, torch.zeros(1, *network.input_shape, dtype=like.dtype, device=like.device), 0)

    made: list[nn.Module] = []

    def in_windows(node: fx.Node) -> nn.Module:
        neuron = module_of(graph, node)
        _, _, *maps = node.meta["shape"]
        assert neuron is not None
        if len(maps) != 3:
            return neuron
        with about(str(node.target)):
            check_windows(maps[1], maps[2], across)
            made.append(WindowLIF(neuron, across, projection))
        return made[-1]

    replace_layers(graph, LIF, in_windows)
    if across > 1 and not made:
        raise BadInput(
            f"expected LIF or IAF neurons on maps for {windows} windows, got a network without; leave windows out "
            "(spiking-rnn is built with them, by Definition.windows)"
        )
    return Network(graph, network.input_shape, network.classes).train(network.training)
