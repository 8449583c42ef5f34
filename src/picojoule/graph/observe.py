"""Observe a model: one forward pass yields `(output, Activity)`."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.cells import Cell, Inside
from picojoule.errors import BadInput, UncountedLayer
from picojoule.graph.fan_out import fan_out
from picojoule.graph.follow import Kinds, Watched, product_kind
from picojoule.graph.linear import (
    MULTIPLICATIONS,
    UNCOUNTED_FUNCTIONS,
    interior_of,
    is_product_of_activations,
    linear_at,
    parameters_of,
    windows_of,
    with_ones,
)
from picojoule.graph.observers import CellObserver, NeuronObserver, Population, ProductObserver, SynapseObserver
from picojoule.graph.propagate import infer_kinds, operands
from picojoule.graph.records import Activity, Site
from picojoule.graph.shapes import BatchAxis, evaluating, infer_shapes
from picojoule.graph.trace import module_of, shared_root, trace
from picojoule.kinds import Events, Kind, Values
from picojoule.layers import QuantisedReLU, Timewise
from picojoule.neurons import Neuron, Stateful
from picojoule.neurons.neuron import updates_of

_NOT_SYNAPSES = (Neuron, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
_RECTIFIERS = (nn.ReLU, QuantisedReLU)
_OBSERVERS = "picojoule_observers"
_RECTIFYING = (nn.functional.relu, torch.relu, "relu")


class Observed(nn.Module):
    """A model that also reports its activity: `observed(x) -> (output, Activity)`.

    It shares modules and parameters with the model it was made from. `uncounted` lists what could not be counted,
    with the reason. Where the height of a neuron's events changes, as with the fineness of `Diffused`, so do the kinds.
    """

    def __init__(self, graph: fx.GraphModule, kinds: Kinds, uncounted: Sequence[str], batch_dim: int):
        super().__init__()
        self.graph_module = graph
        self.uncounted = tuple(uncounted)
        self._kinds, self._batch_dim = kinds, batch_dim

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where synapses are counted."""
        return self._kinds.sites

    def with_graph(self, graph: fx.GraphModule) -> "Observed":
        """The same observation of another form of the graph."""
        return Observed(graph, self._kinds, self.uncounted, self._batch_dim)

    def forward(self, x: Tensor) -> tuple[Any, Activity]:
        self._kinds.follow()
        output, synapses, neurons = self.graph_module(x)
        return output, Activity(synapses, neurons, x.shape[self._batch_dim])


def observe(
    model: nn.Module,
    example: Tensor,
    inputs: Kind = Values(),  # noqa: B008  (frozen)
    *,
    batch_dim: int = 0,
    spiking: Sequence[type[nn.Module]] = (),
    strict: bool = False,
) -> Observed:
    """Make `model` report every synaptic operation of its forward passes.

    `example` is one batch of inputs: its first sample is run to find shapes and the exact fan-out. `inputs` is
    the kind of the inputs; `spiking` names module types that emit unit events and are kept whole. What cannot
    be counted is listed in `uncounted`; with `strict` it raises UncountedLayer. Raises UntraceableModel if
    the model has no static graph.
    """
    with torch.random.fork_rng([example.device] if example.is_cuda else []):
        source = trace(model, tuple(spiking))
        if any(isinstance(m, Stateful) and not m.observable for m in source.modules()):
            raise BadInput(
                "expected a model that is not fused yet, got one that is; observe first: fused(observe(model))"
            )
        infer_shapes(source, example, batch_dim)
        declared: dict[type[nn.Module], Kind] = dict.fromkeys(spiking, Events(most=1))
        infer_kinds(source, inputs, declared)
        builder = _Builder(source, tuple(spiking))
        graph = builder.graph_module()
        kinds = Kinds(source, inputs, declared, builder.watched)
        observed = Observed(graph, kinds, builder.uncounted, batch_dim)
    if strict and observed.uncounted:
        raise UncountedLayer(f"cannot count every operation of {type(model).__name__}: {observed.uncounted[0]}")
    models_own = set(model.modules())
    for module in observed.modules():
        if module not in models_own:
            module.training = model.training
    return observed.to(example.device)


class _Builder:
    """Copies a graph and puts an observer behind every linear operation and every population."""

    def __init__(self, source: fx.GraphModule, spiking: tuple[type[nn.Module], ...]):
        self._source, self._spiking = source, spiking
        self.watched: list[Watched] = []
        self.uncounted: list[str] = []
        self._observers = nn.ModuleList()
        self._graph = fx.Graph()
        self._twins: dict[fx.Node, fx.Node] = {}
        self._synapses: list[fx.Node] = []
        self._neurons: list[fx.Node] = []

    def graph_module(self) -> fx.GraphModule:
        for node in self._source.graph.nodes:
            if node.op == "output":
                result = fx.map_arg(node.args[0], lambda n: self._twins[n])
                self._graph.output((result, tuple(self._synapses), tuple(self._neurons)))
            elif isinstance(module_of(self._source, node), Cell):
                self._copy_cell(node)
            else:
                self._twins[node] = self._graph.node_copy(node, lambda n: self._twins[n])
                self._observe_synapses(node)
            self._observe_neurons(node)
        root = _with_observers(self._source, self._observers)
        return fx.GraphModule(root, self._graph, "Observed")

    def _call(self, observer: nn.Module, *arguments: Any) -> fx.Node:
        self._observers.append(observer)
        return self._graph.create_node("call_module", f"{_OBSERVERS}.{len(self._observers) - 1}", arguments)

    def _observe_synapses(self, node: fx.Node) -> None:
        if node.meta["kind"] is None:
            return
        linear = linear_at(self._source, node)
        if linear is not None:
            operand = linear.operand
            shape, batch = operand.meta["shape"], operand.meta["batch"]
            kind, trained = operand.meta["kind"], operand.meta["trained"]
            sizes, interior = (linear.weights, linear.biases), linear.interior
            site = Site(linear.name, linear.operation, kind, trained, *sizes, interior=interior)
            observer = self._synapse_observer(site, linear.with_ones, shape, linear.windows, batch)
            if observer is not None:
                self._synapses.append(self._call(observer, self._twins[operand]))
                self.watched.append(Watched(observer, (operand,)))
        elif is_product_of_activations(node):
            self._observe_product(node)
        else:
            self._audit(node)

    def _synapse_observer(
        self, site: Site, ones: Any, shape: torch.Size, windows: int, batch: BatchAxis | None
    ) -> SynapseObserver | None:
        if batch is None:
            self.uncounted.append(
                f"{site.name} ({site.operation}): its input of shape {tuple(shape)} has no batch axis"
            )
            return None
        return SynapseObserver(site, fan_out(ones, shape), shape[len(shape) - windows :], batch)

    def _observe_product(self, node: fx.Node) -> None:
        left, right = operands(node)
        batch = node.meta["batch"]
        if (
            batch is None
            or batch.dim >= len(node.meta["shape"]) - 2
            or len(left.meta["shape"]) != len(right.meta["shape"])
        ):
            self.uncounted.append(f"{node.name} (matmul): the batch is not a leading axis of both factors")
            return
        kinds = (left.meta["kind"], right.meta["kind"])
        site = Site(
            node.name, "matmul of activations", product_kind(kinds), left.meta["trained"] or right.meta["trained"]
        )
        observer = ProductObserver(site, kinds, batch)
        self.watched.append(Watched(observer, (left, right)))
        self._synapses.append(self._call(observer, self._twins[left], self._twins[right]))

    def _copy_cell(self, node: fx.Node) -> None:
        cell: Any = module_of(self._source, node)
        x = node.all_input_nodes[0]
        weight = next(cell.parameters())
        with torch.no_grad(), evaluating(cell):
            example: Any = fx.map_arg(
                node.args[0], lambda n: torch.zeros(n.meta["shape"], dtype=weight.dtype, device=weight.device)
            )
            shapes = {k: v.shape for k, v in cell.forward_observed(example, cell.initial_state(example))[2].items()}
        observers: dict[str, SynapseObserver] = {}
        for synapse in cell.synapses():
            kind = x.meta["kind"] if synapse.kind is None else synapse.kind
            trained = x.meta["trained"] if synapse.kind is None else True
            sizes, interior = parameters_of(synapse.layer), interior_of(synapse.layer)
            name, operation = f"{node.target}.{synapse.name}", _kind_of(synapse.layer)
            site = Site(name, operation, kind, trained, *sizes, interior=interior)
            batch = x.meta["batch"]
            ones, windows = with_ones(synapse.layer), windows_of(synapse.layer)
            observer = self._synapse_observer(site, ones, shapes[synapse.name], windows, batch)
            if observer is not None:
                observers[synapse.name] = observer
                self.watched.append(Watched(observer, (x,), synapse.name, cell))
        populations = {p.name: self._inside(node, p) for p in cell.populations()} if x.meta["batch"] else {}
        inputs: Any = fx.map_arg(node.args[0], lambda n: self._twins[n])
        call = self._call(CellObserver(cell, observers, populations), inputs)
        self._twins[node] = self._graph.call_function(operator.getitem, (call, 0))
        for part, found, records in ((1, observers, self._synapses), (2, populations, self._neurons)):
            for i in range(len(found)):
                every = self._graph.call_function(operator.getitem, (call, part))
                records.append(self._graph.call_function(operator.getitem, (every, i)))

    def _inside(self, node: fx.Node, inside: Inside) -> NeuronObserver:
        """The observer of a population inside a cell."""
        name = f"{self._population(node)}.{inside.name}"
        population = Population(name, inside.neuron, f"{node.target}.{inside.synapse}", name, hidden=True)
        observer = NeuronObserver(population, node.all_input_nodes[0].meta["batch"], inside.kind, inside.updates)
        if inside.kind is not None:
            cell: Any = module_of(self._source, node)
            self.watched.append(Watched(observer, tuple(node.all_input_nodes[:1]), inside.name, cell))
        return observer

    def _observe_neurons(self, node: fx.Node) -> None:
        module = module_of(self._source, node)
        batch = node.meta.get("batch")
        if batch is None or (isinstance(module, Cell) and (module.populations() or isinstance(module.emits, Values))):
            return
        if isinstance(module, Neuron | Cell):
            neuron = type(module if isinstance(module, Neuron) else getattr(module, "neuron", module)).__name__
        elif isinstance(module, self._spiking):
            neuron = type(module).__name__
        elif isinstance(module, _RECTIFIERS) or node.target in _RECTIFYING:
            neuron = "ReLU"
        else:
            return
        population = Population(
            self._population(node), neuron, self._driver(node), str(node.target), self._hidden(node)
        )
        kind = node.meta["kind"] if neuron != "ReLU" else None
        observer = NeuronObserver(population, batch, kind, updates_of(module))
        if kind is not None:
            self.watched.append(Watched(observer, (node,)))
        self._neurons.append(self._call(observer, self._twins[node]))

    def _driver(self, node: fx.Node) -> str:
        """The site whose output drives a population: the nearest on the way back; inside a cell, its last one."""
        module = module_of(self._source, node)
        if isinstance(module, Cell):
            return f"{node.target}.{module.synapses()[-1].name}"
        behind = list(node.all_input_nodes)
        while behind:
            source = behind.pop()
            linear = linear_at(self._source, source) if source.meta.get("kind") is not None else None
            if linear is not None:
                return linear.name
            behind += source.all_input_nodes
        return ""

    def _hidden(self, node: fx.Node) -> bool:
        """Whether what a trained population sends enters synapses: its own recurrent ones, or a layer's further on."""
        ahead, seen = [node] if node.meta["trained"] else [], {node}
        while ahead:
            here = ahead.pop()
            if isinstance(module_of(self._source, here), Cell) or (here is not node and self._is_site(here)):
                return True
            if here is not node and self._fires(here):
                continue
            ahead += [user for user in here.users if user not in seen]
            seen.update(here.users)
        return False

    def _fires(self, node: fx.Node) -> bool:
        return isinstance(module_of(self._source, node), (Neuron, *self._spiking))

    def _is_site(self, node: fx.Node) -> bool:
        if node.meta.get("kind") is None:
            return False
        return linear_at(self._source, node) is not None or is_product_of_activations(node)

    def _population(self, node: fx.Node) -> str:
        """A module's name at its first call; each further call of it is another population."""
        calls = [n for n in self._source.graph.nodes if n.op == "call_module" and n.target == node.target]
        return str(node.target) if calls[:1] == [node] else node.name

    def _audit(self, node: fx.Node) -> None:
        module = module_of(self._source, node)
        if module is not None and not isinstance(module, _NOT_SYNAPSES):
            if any(True for _ in module.parameters()):
                self.uncounted.append(f"{node.target} ({type(module).__name__}): no rule counts its operations")
        elif node.target in UNCOUNTED_FUNCTIONS:
            name = getattr(node.target, "__name__", str(node.target))
            self.uncounted.append(f"{node.name} ({name}): no rule counts its operations")
        elif node.target in MULTIPLICATIONS and any(_is_weight(n) for n in node.all_input_nodes):
            self.uncounted.append(f"{node.name}: an elementwise product with a parameter is not counted")


def _with_observers(source: fx.GraphModule, observers: nn.ModuleList) -> nn.Module:
    """A root that holds the source's parts (shared) and the observers."""
    root = shared_root(source)
    root.add_module(_OBSERVERS, observers)
    return root


def _is_weight(node: fx.Node) -> bool:
    return node.op == "get_attr" and node.meta["shape"].numel() > 1


def _kind_of(layer: nn.Module) -> str:
    """The class of a layer, with time folding unwrapped."""
    return type(layer.layer if isinstance(layer, Timewise) else layer).__name__
