"""The neuron operators inside torch: checks of torch itself, compilation, transforms, threads, and our own meters."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from neuron_cases import (
    VARIANTS,
    assert_near,
    assert_same,
    by_kernel,
    by_reference,
    case,
    gradients,
    needs_kernels,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.kernels.lif.reference import LIFState
from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.native.library import using
from picojoule.kernels.saved import membranes_saved_in
from picojoule.kernels.surrogate import triangle
from picojoule.layers import AddTime, Repeat, SpikeCount
from picojoule.neurons import IAF, LIF, CubaLIF, surrogate

pytestmark = needs_kernels
NEURONS = {
    "lif": lambda: LIF(0.9),
    "lif-learn": lambda: LIF(0.8, v_reset=None, learn_decay=True, learn_threshold=True, surrogate=surrogate("arctan")),
    "cuba-lif": lambda: CubaLIF(0.7, v_reset=-0.2),
    "cuba-lif-learn": lambda: CubaLIF(0.7, learn_synaptic_decay=True, learn_decay=True, learn_threshold=True),
    "iaf": lambda: IAF(0.8, surrogate=surrogate("s3nn", a=3.0)),
}
FORWARD = "picojoule::integrate_and_fire"

every_neuron = pytest.mark.parametrize("name", NEURONS)


@pytest.fixture(autouse=True)
def compiled():
    """Whatever PICOJOULE_KERNELS asks for, these tests are of the compiled kernels."""
    with using("auto"):
        yield


class Calls(TorchDispatchMode):
    """Records the results of each operator by name."""

    def __init__(self):
        super().__init__()
        self.results: dict[str, list] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.results.setdefault(func._schema.name, []).append(out)
        return out


def currents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def trained(neuron: Any, x: Tensor) -> list[Tensor]:
    """Events, and the gradients of currents and parameters."""
    x = x.detach().requires_grad_()
    events = neuron(x)
    weights = torch.linspace(-1, 1, events.numel()).view_as(events)
    return [events, *torch.autograd.grad((events * weights).sum(), [x, *neuron.parameters()])]


def by_path(path: str, neuron: nn.Module, x: Tensor) -> list[Tensor]:
    with using(path):
        return trained(neuron, x)


@every_neuron
def test_the_compiled_kernel_is_what_runs(name):
    """Else every comparison here would be of the reference with itself."""
    with Calls() as calls:
        trained(NEURONS[name](), currents(4, 2, 5))
    assert len(calls.results[FORWARD]) == len(calls.results[f"{FORWARD}_backward"]) == 1
    with using("reference"), Calls() as calls:
        NEURONS[name]()(currents(4, 2, 5))
    assert FORWARD not in calls.results


@every_neuron
def test_a_neuron_agrees_with_its_reference_path(name):
    neuron, x = NEURONS[name](), currents(9, 3, 21)
    (events, *found), (plain, *expected) = by_path("auto", neuron, x), by_path("reference", neuron, x)
    assert_same([events], [plain])
    assert_near(found, expected, 1e-5)


def arguments(kind: str, learned: bool, count: bool, saved: torch.dtype | None, x: Tensor) -> tuple:
    c = case(kind, shape=x.shape, learned=learned, dtype=x.dtype)
    v, i = c.v.detach(), None if c.i is None else c.i.detach()
    given = (c.decay, c.threshold, 0.0 if c.synaptic_decay is None else c.synaptic_decay)
    tensors = [g if isinstance(g, Tensor) else None for g in given]
    numbers = [0.0 if isinstance(g, Tensor) else g for g in given]
    return x, v, i, *tensors, numbers, c.kind.v_reset, 2, 2.5, 0.0, learned, count, saved, None


@pytest.mark.parametrize(
    "kind, learned, layout",
    [
        ("iaf", False, "contiguous"),
        ("lif-soft", True, "channels-last"),
        ("lif-hard", False, "expanded"),
        ("lif-hard-to-value", True, "contiguous"),
        ("cuba-soft", False, "neurons apart"),
        ("cuba-hard", True, "channels-last"),
    ],
)
def test_opcheck_of_the_operator(kind, learned, layout):
    x = {
        "contiguous": lambda: currents(3, 2, 5),
        "expanded": lambda: currents(1, 2, 5).expand(3, 2, 5),
        "channels-last": lambda: currents(3, 2, 4, 4, 3).movedim(-1, 2),
        "neurons apart": lambda: currents(3, 2, 10)[..., ::2],
    }[layout]().requires_grad_()
    given = arguments(kind, learned, learned, torch.float32, x)
    torch.library.opcheck(torch.ops.picojoule.integrate_and_fire, given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("saved", [True, False])
def test_opcheck_of_other_dtypes_and_of_inference(dtype, saved):
    x = currents(3, 2, 5).to(dtype)
    torch.library.opcheck(
        torch.ops.picojoule.integrate_and_fire, arguments("cuba-soft", False, True, dtype if saved else None, x)
    )


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize("saved", [torch.float32, None])
def test_opcheck_of_neurons_that_take_events_back(count, saved):
    x = currents(3, 2, 5).requires_grad_(saved is not None)
    given = arguments("iaf", False, count, saved, x)
    torch.library.opcheck(torch.ops.picojoule.integrate_and_fire, (*given[:-1], torch.ones(2, 5)))


@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_of_the_backward_operator(kind, learned, dtype):
    x = currents(3, 2, 5).to(dtype)
    x, v, i, *parameters, count, _, _ = arguments(kind, learned, True, None, x)
    parameters = [p.detach() if isinstance(p, Tensor) else p for p in parameters]
    g, u = torch.randn(2, 5).to(dtype).expand(3, 2, 5), torch.randn(3, 2, 5)
    g_i = None if i is None else torch.randn(2, 5)
    state = (v, i) if learned else (None, None)
    given = (g, torch.randn(2, 5), None, g_i, u, *state, *parameters, i is not None, dtype)
    torch.library.opcheck(torch.ops.picojoule.integrate_and_fire_backward, given)


class Tail(nn.Module):
    """Neurons between two layers, with state in and out."""

    def __init__(self, neuron: LIF):
        super().__init__()
        self.inwards, self.neuron, self.out = nn.Linear(6, 11), neuron, nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        events, state = self.neuron.advance(self.inwards(x), self.neuron.initial_state(self.inwards(x)))
        return self.out(events) + state.v.sum()


@pytest.mark.parametrize("name", ["lif", "lif-learn", "cuba-lif-learn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_by_the_compiler(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Tail(NEURONS[name]())
    traces = []

    def backend(graph, example_inputs):
        traces.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, example_inputs)

    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for seed in range(3):
        x = currents(5, 3, 6, seed=seed)
        assert_near(trained(compiled, x), trained(model, x), 1e-6)
    assert len(traces) == 1, "the same shapes were traced again"
    with torch.no_grad():
        assert_near([compiled(x)], [model(x)], 1e-6)


@pytest.mark.slow  # the compiler writes and builds C++
@pytest.mark.filterwarnings("ignore")
def test_compiled_by_inductor():
    torch._dynamo.reset()
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5))
    convolutions.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for neuron in (LIF(learn_decay=True), CubaLIF()):

        def step(x: Tensor, neuron: LIF = neuron) -> Tensor:
            y = convolutions(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return neuron(y).flatten(2).mean(0) * 3

        x = currents(4, 3, 2, 8, 8)
        compiled, found = torch.compile(step, fullgraph=True), []
        for run in (step, compiled, compiled):
            leaf = x.clone().requires_grad_()
            y = run(leaf)
            (g,) = torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), leaf)
            found.append((y, g))
        assert_near(found[1], found[0], 1e-4)
        assert_same(found[2], found[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_for_any_number_of_steps():
    torch._dynamo.reset()
    neuron = LIF(0.9)
    compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((3, 2, 5), (7, 4, 6), (9, 3, 11)):
        assert_same(trained(compiled, currents(*shape)), trained(neuron, currents(*shape)))


@every_neuron
def test_batching_by_vmap_is_right_or_refused(name):
    neuron, x = NEURONS[name](), currents(3, 4, 2, 5)
    with torch.no_grad():
        assert_same([torch.vmap(neuron)(x)], [torch.stack([neuron(y) for y in x])])
    for transform in (torch.func.grad, torch.func.jacrev):
        with pytest.raises(RuntimeError, match="functorch transforms"):
            transform(lambda x: neuron(x).sum())(x[0])


@every_neuron
def test_a_second_derivative_is_refused(name):
    neuron, x = NEURONS[name](), currents(4, 2, 5).requires_grad_()
    weight = torch.tensor(1.5, requires_grad=True)
    (g,) = torch.autograd.grad((weight * neuron(x)).sum(), x, create_graph=True)
    for penalty in (g.square().sum(), g.sum()):
        with pytest.raises(BadInput, match="first derivatives only .*using\\('reference'\\)"):
            torch.autograd.grad(penalty, [x, weight], retain_graph=True)
    with using("reference"):
        (g,) = torch.autograd.grad((weight * neuron(x)).sum(), x, create_graph=True)
        assert torch.isfinite(torch.autograd.grad(g.square().sum(), weight)[0])


def test_backward_twice_gives_the_same():
    c = case("cuba-hard", learned=True)
    out = by_kernel(c)
    first = torch.autograd.grad(out.events.sum() + out.v.sum(), c.leaves(), retain_graph=True)
    assert_same(torch.autograd.grad(out.events.sum() + out.v.sum(), c.leaves()), first)


@pytest.mark.parametrize("of", ["events", "sent", "v", "i"])
@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
def test_gradients_of_single_results(of, kind):
    c = case(kind, dtype=torch.float64, learned=True)
    if of == "i" and c.i is None:
        pytest.skip("no synaptic current")
    found, expected = (
        torch.autograd.grad(getattr(out, of).square().sum(), c.leaves(), materialize_grads=True)
        for out in (by_kernel(c), by_reference(c))
    )
    assert_near(found, expected, 1e-12)


@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
def test_gradients_only_of_what_asks_for_them(kind):
    c = case(kind, learned=True)
    expected = gradients(by_kernel(c), c)
    names = [name for name, x in c._asdict().items() if isinstance(x, Tensor)]
    for wanted, gradient in zip(names, expected, strict=True):
        alone = c._replace(**{n: getattr(c, n).detach().requires_grad_(n == wanted) for n in names})
        assert_near(gradients(by_kernel(alone), alone), [gradient], 1e-6)


def test_results_not_asked_for_have_no_gradient():
    c = case("lif-soft", learned=True)
    out = by_kernel(c, count=False)
    assert not out.sent.requires_grad and not out.i.requires_grad
    (out.events.sum() + out.sent.sum() + out.i.sum()).backward()


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
@every_neuron
def test_inference_keeps_no_membranes(name, without_gradients):
    neuron, x = NEURONS[name](), currents(4, 2, 5)
    with without_gradients(), Calls() as calls:
        events = neuron(x)
    *_, u = calls.results[FORWARD][0]
    assert u.numel() == 0 and not events.requires_grad
    assert_same([events], [neuron(x)])
    with torch.inference_mode():
        inside = neuron(x.clone())
    assert_same([inside.clone()], [events])


def test_parameters_that_need_no_gradient_keep_no_membranes():
    neuron = NEURONS["lif-learn"]().requires_grad_(False)
    with Calls() as calls:
        neuron(currents(4, 2, 5))
    assert calls.results[FORWARD][0][-1].numel() == 0


@every_neuron
def test_autocast(name):
    torch.manual_seed(0)
    model, x = Tail(NEURONS[name]()), currents(5, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.inwards(x)
        events = model.neuron(rounded)
        model(x).float().square().mean().backward()
    assert rounded.dtype == events.dtype == torch.bfloat16
    with using("reference"):
        assert_same([events.float()], [model.neuron(rounded.float())])
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@every_neuron
def test_the_path_may_change_between_forward_and_backward(name):
    neuron, x = NEURONS[name](), currents(6, 2, 9)
    expected = trained(neuron, x)[1]
    leaf = x.clone().requires_grad_()
    events = neuron(leaf)
    with using("reference"):
        weights = torch.linspace(-1, 1, events.numel()).view_as(events)
        (found,) = torch.autograd.grad((events * weights).sum(), leaf)
        plain = trained(neuron, x)[1]
    assert_same([found], [expected])
    assert_near([plain], [expected], 1e-5)
    assert_same([trained(neuron, x)[1]], [expected])


@every_neuron
def test_copies_and_pickles(name):
    neuron, x = NEURONS[name](), currents(6, 2, 9)
    expected = trained(neuron, x)
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert_same(trained(other, x), expected)


def test_python_threads_do_not_mix():
    torch.set_num_threads(2)
    inputs = [(name, seed) for name in NEURONS for seed in range(4)]

    def work(given: tuple[str, int]) -> list[Tensor]:
        return trained(NEURONS[given[0]](), currents(12, 4, 4000, seed=given[1]))

    try:
        expected = [work(given) for given in inputs]
        with ThreadPoolExecutor(4) as pool:
            for found, wanted in zip(pool.map(work, inputs), expected, strict=True):
                assert_same(found, wanted)
    finally:
        torch.set_num_threads(1)


def test_recomputation_in_the_backward_pass():
    neuron, x = NEURONS["cuba-lif-learn"](), currents(6, 2, 9)
    expected = trained(neuron, x)

    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = neuron

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.neuron, x, use_reentrant=False)  # pyright: ignore[reportReturnType]

    assert_same(trained(Again(), x), expected)


def graph_size(x: Tensor) -> int:
    """Nodes of the autograd graph behind a tensor."""
    seen, todo = set(), [x.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [parent for parent, _ in node.next_functions]
    return len(seen)


@every_neuron
def test_the_graph_does_not_grow_with_time(name):
    sizes = {graph_size(NEURONS[name]()(currents(steps, 2, 3).requires_grad_())) for steps in (1, 4, 200)}
    assert len(sizes) == 1


def counted() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        AddTime(),
        Repeat(6),
        nn.Linear(8, 12),
        LIF(0.8),
        nn.Linear(12, 10),
        CubaLIF(0.6),
        nn.Linear(10, 4),
        IAF(0.5),
        SpikeCount(),
    )


def test_observed_and_metered_counts_are_those_of_the_reference_path():
    found = []
    for path in ("reference", *VARIANTS):
        with using(path), torch.no_grad():
            model, x = counted(), currents(5, 8).relu()
            output, activity = pj.observe(model, x)(x)
            with pj.meter(model) as meter:
                model(x)
            metered = meter.activity()
            found.append(
                [
                    output,
                    *(record.acs for record in activity.synapses),
                    *(record.events for record in activity.neurons),
                    *(record.acs for record in metered.synapses),
                    *(record.events for record in metered.neurons),
                ]
            )
    assert len(found[0]) == 1 + 4 * 3 and all(x.sum() > 0 for x in found[0][4:7] + found[0][10:])
    for other in found[1:]:
        assert_same(other, found[0])


class Custom(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return 1 / (1 + u * u)


@dataclass
class Unhashable:
    width: float = 1.0

    def __call__(self, u: Tensor) -> Tensor:
        return triangle(u, width=self.width)


@pytest.mark.parametrize(
    "own", [lambda u: triangle(u), Custom(), Unhashable(), partial(Custom()), partial(torch.full_like, fill_value=1.0)]
)
def test_surrogates_of_the_users_own_run_the_reference_path(own):
    neuron, x = LIF(surrogate=own), currents(5, 2, 7)
    with Calls() as calls:
        found = trained(neuron, x)
    assert FORWARD not in calls.results
    assert_same(found, by_path("reference", neuron, x))


def test_shapes_of_surrogates_reach_the_kernel():
    wide, narrow = (LIF(surrogate=partial(partial(triangle, width=9.0), width=w)) for w in (3.0, 0.5))
    x = currents(5, 2, 7)
    for neuron in (wide, narrow):
        assert_near(by_path("auto", neuron, x), by_path("reference", neuron, x), 1e-6)
    assert not torch.equal(trained(wide, x)[1], trained(narrow, x)[1])


@pytest.mark.parametrize(
    "neuron, x",
    [
        (LIF(), currents(3, 2, 5).half()),
        (LIF(max_events=2), currents(3, 2, 5)),
        (LIF(), currents(3, 2, 5).to("meta")),
    ],
)
def test_what_the_kernels_do_not_serve_runs_the_reference_path(neuron, x):
    with Calls() as calls:
        events = neuron(x)
    assert FORWARD not in calls.results and events.dtype == x.dtype and events.device == x.device


def test_a_wider_state_runs_the_reference_path():
    neuron, x = LIF(), currents(3, 2, 5)
    start = LIFState(torch.full((2, 5), 0.1, dtype=torch.float64))
    events, state = neuron.advance(x, start)
    with using("reference"):
        expected = neuron.advance(x, start)
    assert state.v.dtype == torch.float64
    assert_same([events, state.v], [expected[0], expected[1].v])


def test_a_parameter_of_each_neuron_runs_the_reference_path():
    c = case("lif-soft", learned=True)
    assert integrate_and_fire.serves(c.currents, c.parameters)
    assert not integrate_and_fire.serves(c.currents, c.parameters._replace(decay=torch.rand(37)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int8, "bfloat16"])
def test_membranes_are_saved_in_two_dtypes(dtype):
    with pytest.raises(BadInput, match="torch.bfloat16 or torch.float32"), membranes_saved_in(dtype):
        pass


def test_where_membranes_are_saved_ends_with_the_block():
    def saved() -> torch.dtype:
        with Calls() as calls:
            LIF()(currents(3, 2, 5).requires_grad_())
        return calls.results[FORWARD][0][-1].dtype

    with membranes_saved_in(torch.bfloat16):
        assert saved() == torch.bfloat16
        with pytest.raises(ZeroDivisionError), membranes_saved_in(torch.float32):
            assert saved() == torch.float32
            _ = 1 / 0
        assert saved() == torch.bfloat16
    assert saved() == torch.float32


FLUSHED = """
import torch
from picojoule.kernels.native.library import available, using
from picojoule.neurons import CubaLIF, LIF, surrogate
torch.set_num_threads(1)
assert torch.set_flush_denormal(True)
torch.manual_seed(0)
tiny = torch.randn(20, 3, 50) * 3e-38
for make in (LIF, CubaLIF):
    for x, threshold in ((tiny, 3e-38), (tiny, 3e-39), (torch.randn(20, 3, 50), 1.0)):
        for v_reset in (None, 0.0):
            results = []
            for path in available():
                with using(path):
                    leaf = x.clone().requires_grad_()
                    neuron = make(threshold=threshold, v_reset=v_reset, surrogate=surrogate("arctan"))
                    events, state = neuron.advance(leaf, neuron.initial_state(leaf))
                    gradient, = torch.autograd.grad(events.sum() + state.v.sum(), leaf)
                    results.append((events.detach(), state.v.detach(), gradient))
            for other in results[1:]:
                assert torch.equal(other[0], results[0][0]), "events"
                assert torch.equal(other[1], results[0][1]), "state"
                torch.testing.assert_close(other[2], results[0][2], rtol=1e-5, atol=1e-5)
print("equal")
"""


def test_flushed_denormals_change_all_paths_alike():
    done = subprocess.run(
        [sys.executable, "-c", FLUSHED], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("equal", "")
