"""What the meter learned of a model: its parts by name, the sites found so far, and what it could not see."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from picojoule.cells import Cell
from picojoule.graph.linear import LINEAR_MODULES
from picojoule.kinds import Kind
from picojoule.layers import QuantisedReLU, Timewise
from picojoule.metering.call import Probe
from picojoule.metering.site_info import Reach, SiteInfo
from picojoule.neurons import Diffused

FUNCTIONAL = "spike"
"""The kind of a population that is no module."""
NAMED_ACTIVATIONS = (nn.ReLU, QuantisedReLU)


@dataclass
class Population:
    """A place where events are born, behind the site `layer`: a neuron module, or a comparison outside any."""

    name: str
    neuron: str
    layer: str
    origins: set[str] = field(default_factory=set)
    analog: bool = False


class Session:
    """The state of one meter: shared by classification and quick counting."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Kind,
        batch_dim: int,
        kinds: Sequence[tuple[type[nn.Module], Kind]],
        skip_zero_weights: bool,
        probes: Sequence[Probe],
    ):
        self.model, self.inputs, self.batch_dim = model, inputs, batch_dim
        self.kinds, self.skip_zero_weights, self.probes = tuple(kinds), skip_zero_weights, tuple(probes)
        self.root = model_inside(model)
        self.paths: dict[nn.Module, str] = {}
        self.name_modules()
        self.sites: dict[str, SiteInfo] = {}
        self.reaches: dict[Any, Reach] = {}
        self.populations: dict[str, Population] = {}
        self.reached: set[str] = set()
        self.left: set[str] = set()
        self.uncounted: dict[str, str] = {}

    def name_modules(self) -> None:
        """Names of all modules: paths from the part that a user wrote, without wrappers."""
        for path, module in self.root.named_modules():
            self.paths.setdefault(module, clean(path))
        for path, module in self.root.named_modules():
            if isinstance(module, Timewise):
                self.paths[module.layer] = clean(path)
        for module in self.model.modules():
            self.paths.setdefault(module, "")

    def attributes(self) -> list[Tensor]:
        """Buffers and tensors in attributes of the modules: constants of the model, or state it keeps."""
        found = list(self.model.buffers())
        for module in self.model.modules():
            for name, value in vars(module).items():
                if not name.startswith("_parameters"):
                    found += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
        return found

    def declared_kind(self, module: nn.Module) -> Kind | None:
        """The kind of a module's output, where it is stated and not followed."""
        for kind_of, kind in self.kinds:
            if isinstance(module, kind_of):
                return kind
        source = getattr(module, "neuron", None) if isinstance(module, Cell) else module
        return source.emits if isinstance(source, QuantisedReLU | Diffused) else None

    def site(self, name: str, operation: str, weights: int, biases: int) -> SiteInfo:
        if name not in self.sites:
            self.sites[name] = SiteInfo(name, operation, weights, biases)
        return self.sites[name]

    def miss(self, name: str, reason: str) -> None:
        """Something that cannot be counted, once."""
        self.uncounted.setdefault(name, reason)

    def _rank(self, key: str) -> tuple[Any, ...]:
        """Modules before comparisons outside of any, outer ones before inner ones, activations last."""
        p = self.populations[key]
        return p.analog, p.neuron == FUNCTIONAL, key.count("."), key

    def populations_named(self) -> dict[str, str]:
        """The populations by their keys, and the names to show.

        Where modules contain each other, the outermost one whose output is the events stands for them. A comparison
        outside neuron modules is one if its events reached a synapse or left the model; a rectifier, if its output
        is not compared in turn.
        """
        chosen: dict[str, str] = {}
        analog: dict[str, str] = {}
        taken: set[str] = set()
        for key in sorted(self.populations, key=self._rank):
            p = self.populations[key]
            if p.analog:
                if not p.layer or all(p.layer != self.populations[k].layer for k in chosen):
                    analog[key] = p.name
            elif (p.neuron != FUNCTIONAL or p.origins & (self.reached | self.left)) and not p.origins <= taken:
                chosen[key] = p.name
                taken |= p.origins
        chosen |= analog
        order = list(self.populations)
        return {key: chosen[key] for key in order if key in chosen}

    def hidden(self) -> set[str]:
        """The keys of populations whose events entered synapses."""
        return {key for key, p in self.populations.items() if p.origins & self.reached}


def model_inside(model: nn.Module) -> nn.Module:
    """The module whose parts have the names a user knows: inside compilation and traced networks."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        graph = getattr(model, "graph_module", None)
        if isinstance(inner, nn.Module):
            model = inner
        elif isinstance(graph, fx.GraphModule):
            model = graph
        else:
            return model


def clean(path: str) -> str:
    return path.replace("_orig_mod.", "").replace("_orig_mod", "")


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, LINEAR_MODULES)


def is_cell(module: nn.Module) -> bool:
    return isinstance(module, Cell)


def first_tensor(tree: Any) -> Tensor | None:
    """The first tensor in nested arguments."""
    if isinstance(tree, Tensor):
        return tree
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple | list):
        for part in tree:
            found = first_tensor(part)
            if found is not None:
                return found
    return None
