"""The meter against brute force, on networks of other libraries as their users write them."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import picojoule as pj
from picojoule.energy import QUANTITIES
from picojoule.kinds import Kind

from .brute_force import Counted, count_operations
from .installed import case, cases, named
from .zoo import Entry

pytestmark = pytest.mark.filterwarnings("ignore")
COMPARED = ("acs", "graded_events", "macs", "dense_macs", "synapses")
TRAINED = ("snntorch-average-pool", "snntorch-learned", "spikingjelly-multi-lif", "spikingjelly-single-lif")


def kind_of(entry: Entry) -> Kind:
    return pj.Values() if entry.unit is None else pj.Events(entry.unit)


def run(entry: Entry, model: nn.Module, x: Tensor) -> Tensor:
    """One pass from rest."""
    if entry.reset:
        entry.reset(model)
    return model(x)


def brute_force(entry: Entry, model: nn.Module, x: Tensor) -> Counted:
    if entry.reset:
        entry.reset(model)
    found = count_operations(model, x, entry.truth, x.shape[entry.batch_dim])
    if entry.reset:
        entry.reset(model)
    return found


def metered(entry: Entry, model: nn.Module, x: Tensor) -> tuple[Tensor, pj.Activity]:
    with pj.meter(model, inputs=kind_of(entry), batch_dim=entry.batch_dim) as meter:
        y = run(entry, model, x)
    return y, meter.activity()


@pytest.mark.parametrize("entry", cases)
def test_measure_equals_brute_force(entry: Entry):
    model = entry.model()
    expected = [brute_force(entry, model, x) for x in entry.batches()]
    report = pj.measure(model, entry.batches(model), inputs=kind_of(entry), batch_dim=entry.batch_dim)
    sums = {q: report.counts.sums[QUANTITIES.index(q)] for q in COMPARED}
    assert report.counts.samples == sum(x.shape[entry.batch_dim] for x in entry.batches())
    assert not report.uncounted
    for quantity, by_layer in sums.items():
        assert float(by_layer.sum()) == sum(float(c.total(quantity).sum()) for c in expected), quantity
    for layer in named_layers(model) & expected[0].sites.keys():
        for quantity, by_layer in sums.items():
            here = sum(float(getattr(c.sites[layer], quantity).sum()) for c in expected)
            assert float(by_layer[report.counts.layers.index(layer)]) == here, (layer, quantity)


def named_layers(model: nn.Module) -> set[str]:
    """Layers of torch, which every report calls by their path."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return {name for name, m in model.named_modules() if isinstance(m, kinds)}


@pytest.mark.parametrize("entry", cases)
def test_a_metered_pass_is_exact_for_each_sample_and_changes_nothing(entry: Entry):
    model = entry.model()
    for x in entry.batches():
        with torch.no_grad():
            expected, plain = brute_force(entry, model, x), run(entry, model, x)
            before = traces(entry, model, x)
            y, activity = metered(entry, model, x)
        assert torch.equal(y, plain)
        assert traces(entry, model, x) == before
        for quantity in ("acs", "graded_events", "macs"):
            by_sample = torch.stack([getattr(record, quantity) for record in activity.synapses]).sum(0)
            assert torch.equal(by_sample, expected.total(quantity)), quantity


def traces(entry: Entry, model: nn.Module, x: Tensor) -> Any:
    """Everything a meter could leave behind: attributes, hooks, modes. Of a model at rest."""
    if entry.reset:
        entry.reset(model)
    modules = {
        name: (sorted(vars(m)), {k: len(v) for k, v in vars(m).items() if k.endswith("_hooks")}, type(m).forward)
        for name, m in model.named_modules()
    }
    tensors = [x, *model.parameters(), *model.buffers()]
    everywhere = {k: len(v) for k, v in vars(torch_module).items() if k.startswith("_global") and isinstance(v, dict)}
    modes = len(_get_current_function_mode_stack()), len(_get_current_dispatch_mode_stack())
    return (
        modules,
        [sorted(vars(t)) for t in tensors],
        [len(t._backward_hooks or ()) for t in tensors],
        everywhere,
        modes,
    )


@pytest.mark.parametrize("entry", cases)
def test_a_backward_pass_counts_nothing_and_keeps_its_gradients(entry: Entry):
    model = entry.model()
    x = next(iter(entry.batches()))
    expected = brute_force(entry, model, x)
    with torch.enable_grad():
        run(entry, model, x).sum().backward()
        plain = gradients(model)
        with pj.meter(model, inputs=kind_of(entry), batch_dim=entry.batch_dim) as meter:
            run(entry, model, x).sum().backward()
        activity = meter.activity()
    acs = torch.stack([record.acs.detach() for record in activity.synapses]).sum(0)
    assert torch.equal(acs, expected.total("acs"))
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, plain[name]), name


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_the_membrane_of_a_hand_written_loop_is_values():
    """`w4` reads the membrane after soft reset; `w3` the spikes."""
    entry = named("functional-loop")
    model = entry.model()
    x = next(iter(entry.batches()))
    _, activity = metered(entry, model, x)
    kinds = {record.site.name: record.site.kind for record in activity.synapses}
    assert isinstance(kinds["w3"], pj.Events) and isinstance(kinds["w4"], pj.Values)


@pytest.mark.parametrize("entry", [case(named(name)) for name in TRAINED])
def test_a_penalty_trains_foreign_networks_to_fewer_operations(entry: Entry):
    model = entry.model()
    x = next(iter(entry.batches()))
    before = hidden_acs(entry, model, x)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(12):
        with pj.meter(model, inputs=kind_of(entry), batch_dim=entry.batch_dim) as meter:
            run(entry, model, x)
        penalty = pj.synaptic_penalty(meter.activity())
        optimiser.zero_grad()
        (penalty / before).backward()
        assert all(bool(g.isfinite().all()) for g in trained_gradients(model.parameters()))
        optimiser.step()
    assert hidden_acs(entry, model, x) < 0.8 * before


def trained_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    found = [p.grad for p in parameters if p.grad is not None]
    assert any(bool(g.any()) for g in found), "no gradient reached a parameter"
    return found


def hidden_acs(entry: Entry, model: nn.Module, x: Tensor) -> float:
    """Accumulates that trained neurons cause: those of all layers but the first, which the input feeds."""
    first, *hidden = brute_force(entry, model, x).sites.values()
    return sum(float(o.acs.mean()) for o in hidden)
