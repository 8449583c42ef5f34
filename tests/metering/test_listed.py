"""What cannot be followed is listed, and nothing else; declarations, strictness, names."""

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from metered import Through, counted, metered, reached, rows
from styles import STYLES, spike
from torch import Tensor, nn

import picojoule as pj
from picojoule.errors import BadInput, UncountedLayer
from picojoule.kinds import Events, Values
from picojoule.metering import OPAQUE, meter


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@torch.library.custom_op("meter_tests::fire", mutates_args=())
def fire(v: Tensor) -> Tensor:
    """An opaque spike: no dispatch sees inside."""
    return torch.from_numpy((v.numpy() > 0.3).astype(np.float32))


@torch.library.custom_op("meter_tests::dense", mutates_args=())
def dense(x: Tensor, weight: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() @ weight.numpy().T)


class Body(nn.Module):
    """`last(body(first(x)))`."""

    def __init__(self, body: Callable[[Tensor], Tensor]):
        super().__init__()
        self.body = body
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x)))


def _threaded(v: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(spike(v)))
    thread.start()
    thread.join()
    return found[0]


CONSTANTS = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])

LOST: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "numpy": (lambda v: torch.from_numpy((v.numpy() > 0).astype(np.float32)), "outside"),
    "tolist": (lambda v: torch.tensor((v > 0).tolist(), dtype=torch.float32), "outside"),
    "item": (lambda v: torch.tensor([[float(n.item() > 0) for n in row] for row in v]), "outside"),
    "a thread": (_threaded, "outside|thread"),
    "an opaque operation": (lambda v: fire(v), "meter_tests::fire"),
    "a foreign mask": (lambda v: spike(v) * CONSTANTS, "outside"),
    "numpy, then a sum": (lambda v: torch.from_numpy(v.numpy()) + 0.0, "outside"),
    "sparse and back": (lambda v: spike(v).to_sparse().to_dense(), "sparse"),
    "an operation without a rule": (lambda v: torch.special.i0(spike(v)) - 1, "i0|rule"),
    "the inverse transform": (lambda v: torch.fft.irfft(torch.fft.rfft(spike(v)), 5), "fft|rule"),
    "python's if": (lambda v: _python_if(v), "last"),
    "nonzero": (lambda v: _nonzero(v), "last"),
}


def _python_if(v: Tensor) -> Tensor:
    z = torch.zeros_like(v)
    for i, row in enumerate(v):
        for j, n in enumerate(row):
            if n > 0:
                z[i, j] = 1.0
    return z


def _nonzero(v: Tensor) -> Tensor:
    z = torch.zeros_like(v)
    for i, j in (v > 0).nonzero().tolist():
        z[i, j] = 1.0
    return z


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_counted_as_values_and_listed(name: str):
    body, says = LOST[name]
    model, x = Body(body), torch.randn(4, 6)
    found, m = metered(model, x)
    z = body(model.first(x).detach())
    assert found["last"].quantum is None
    assert sum(found["last"].macs) == sum(reached(model.last, z != 0))
    (line,) = [what for what in m.uncounted if what.startswith("last")]
    assert re.search(says, line), line
    with pytest.raises(UncountedLayer, match="Body"):
        metered(model, x, strict=True)
    with pytest.raises(UncountedLayer, match="Body"):
        pj.measure(model, [x], strict=True)


def test_the_batch_of_what_is_lost():
    """Samples that cannot be told apart share evenly; where the shape tells, it is used."""
    model, x = Body(LOST["numpy"][0]), torch.randn(4, 6)
    z = LOST["numpy"][0](model.first(x).detach())
    assert counted(model, x)["last"].macs == reached(model.last, z)


@pytest.mark.parametrize("name", STYLES)
def test_nothing_is_listed_for_clean_models(name: str):
    style = STYLES[name]
    model = style.make()
    report = pj.measure(model, [style.x(2), style.x(3)], batch_dim=style.batch_dim, strict=True)
    assert report.uncounted == ()


class Threads(nn.Module):
    """A layer in a thread of its own."""

    def __init__(self, functional: bool):
        super().__init__()
        self.seen, self.hidden = nn.Linear(6, 3), nn.Linear(6, 3)
        self.functional = functional

    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []

        def work() -> None:
            found.append(x @ self.hidden.weight.t() if self.functional else self.hidden(x))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return self.seen(x) + found[0]


def test_layers_in_threads_are_listed():
    """Functional use of weights in another thread is a limit that docs/meter.md names."""
    found, m = metered(Threads(False), torch.randn(4, 6))
    assert "hidden" in found or any("hidden" in what for what in m.uncounted)


def test_an_opaque_linear_operation_is_counted_or_listed():
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen, self.hidden = nn.Linear(6, 6), nn.Parameter(torch.randn(3, 6))

        def forward(self, x: Tensor) -> Tensor:
            return dense(self.seen(x), self.hidden.detach())

    _, m = metered(Opaque(), torch.randn(4, 6))
    assert any("dense" in what or "hidden" in what for what in m.uncounted)


def test_sparse_products_are_named_even_if_nothing_else_runs():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(spike(x).to_sparse(), self.weight)

    with pytest.raises(BadInput, match="sparse"):
        metered(Sparse(), torch.randn(4, 6))


def test_registered_opaque_operations():
    model, x = Body(lambda v: fire(v)), torch.randn(4, 6)
    OPAQUE["meter_tests::fire"] = Events(most=1)
    try:
        found, m = metered(model, x)
    finally:
        del OPAQUE["meter_tests::fire"]
    z = fire(model.first(x).detach())
    assert found["last"].quantum == 1 and found["last"].acs == reached(model.last, z)
    assert m.uncounted == ()
    assert found["last"].acs != counted(model, x)["last"].acs


def test_registered_opaque_operations_are_trained_neurons():
    """They can be penalised, if the operation has a gradient."""

    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient

    fire.register_autograd(backward)
    model, x = Body(lambda v: fire(v)), torch.randn(4, 6)
    OPAQUE["meter_tests::fire"] = Events(most=1)
    try:
        with meter(model) as m:
            model(x)
            activity = m.activity()
            (record,) = activity.penalisable()
            assert record.site.name == "last"
            pj.synaptic_penalty(activity).backward()
    finally:
        del OPAQUE["meter_tests::fire"]
    assert model.first.bias.grad is not None
    assert model.first.bias.grad.tolist() == pytest.approx([3.0] * 5)


class Neuron(nn.Module):
    """A neuron that cannot be followed."""

    def forward(self, v: Tensor) -> Tensor:
        return torch.from_numpy((v.detach().numpy() > 0.3).astype(np.float32))


class Rate(nn.Module):
    """A quantised activation, which is events by its provenance."""

    def forward(self, v: Tensor) -> Tensor:
        return torch.floor(torch.relu(v) * 4) / 4


def test_declared_spiking_modules():
    model, x = nn.Sequential(nn.Linear(6, 5), Neuron(), nn.Linear(5, 3)), torch.randn(4, 6)
    found, m = metered(model, x, spiking=(Neuron,))
    z = Neuron()(model[0](x))
    assert found["2"].quantum == 1 and found["2"].acs == reached(model[2], z)
    assert m.uncounted == ()
    report = pj.measure(model, [x, x], spiking=(Neuron,), strict=True)
    assert float(report.counts.total("acs")) == sum(reached(model[2], z)) / 4
    assert [h.name for h in report.health] == ["1"]


def test_declared_values():
    model, x = nn.Sequential(nn.Linear(6, 5), Rate(), nn.Linear(5, 3)), torch.randn(4, 6)
    assert counted(model, x)["2"].quantum == 0.25
    found, m = metered(model, x, values=(Rate,))
    assert found["2"].quantum is None and found["2"].reason == "declared as values"
    assert found["2"].macs == reached(model[2], Rate()(model[0](x)) != 0)
    assert m.uncounted == ()


def test_a_declaration_that_is_wrong_is_not_believed():
    """Declared as spikes, but graded: the guard lists it."""
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(4, 6)
    found, m = metered(model, x, spiking=(nn.Tanh,))
    assert found["2"].quantum is None
    assert any("2:" in what and "found other values" in what for what in m.uncounted)


@pytest.mark.parametrize("quick", [True, False])
def test_events_declared_as_inputs_that_are_none(quick: bool):
    """Also where the first batch happens to look like events."""
    model = nn.Sequential(nn.Linear(6, 5))
    with torch.no_grad(), meter(model, inputs=Events(most=1), quick=quick) as m:
        model((torch.rand(4, 6) < 0.5).float())
        m.activity()
        try:
            model(torch.rand(4, 6))
            row = rows(m.activity())["0"]
        except BadInput as error:
            assert "0: expected events" in str(error)
            return
        assert row.quantum is None or any("0:" in what for what in m.uncounted)


INPUTS: dict[str, tuple[Tensor, Any, float | None]] = {
    "bool": (torch.rand(4, 6) < 0.5, Values(), 1),
    "unit": ((torch.rand(4, 6) < 0.5).float(), Events(most=1), 1),
    "scaled": ((torch.rand(4, 6) < 0.5) * 0.3, Events(0.3, most=1), 0.3),
    "signed": (torch.randint(-1, 2, (4, 6)).float(), Events(signed=True, most=1), 1),
    "counts": (torch.randint(0, 200, (4, 6)).float(), Events(), 1),
    "integers of bytes": (torch.randint(0, 200, (4, 6), dtype=torch.uint8), Events(), 1),
    "values": (torch.randn(4, 6), Values(), None),
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("quick", [True, False])
def test_declared_inputs(name: str, quick: bool):
    x, kind, quantum = INPUTS[name]
    layer = nn.Linear(6, 5)
    model = Through(lambda x: x.float(), layer)
    n = x.double().abs() / (quantum or 1)
    want = reached(layer, n.round() if quantum else n != 0)
    with torch.no_grad(), meter(model, inputs=kind, quick=quick) as m:
        for _ in range(2):
            model(x)
            row = rows(m.activity())["layer"]
            assert row.quantum == quantum and row.operations == want


def test_second_inputs_are_not_the_declared_ones():
    """Only the first tensor is the input; another one is not followed, and listed."""

    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 5), nn.Linear(4, 5)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.first(x) + self.second(y)

    x, y = (torch.rand(4, 6) < 0.5).float(), torch.randn(4, 4)
    found, m = metered(TwoInputs(), x, y, inputs=Events(most=1))
    assert found["first"].quantum == 1
    assert found["second"].quantum is None and found["second"].macs == [20.0] * 4


def test_strict_raises_at_the_end_of_the_context_and_names_the_layer():
    model = Body(LOST["tolist"][0])
    with pytest.raises(UncountedLayer, match="cannot count every operation of Body: last"), torch.no_grad():
        with meter(model, strict=True) as m:
            model(torch.randn(4, 6))
            assert m.activity().synapses


class Old(nn.Module):
    """A state that stayed from an earlier call."""

    def __init__(self):
        super().__init__()
        self.layer, self.z = nn.Linear(6, 6), torch.zeros(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.z)
        self.z = spike(x + y)
        return y


def test_stale_state_is_listed():
    model, x = Old(), torch.randn(4, 6)
    model(x)
    model.z = model.z.detach()
    found, m = metered(model, x)
    assert found["layer"].quantum is None and any("outside" in what for what in m.uncounted)


def test_state_of_an_earlier_step_is_known_with_steps_outside():
    model, x = Old(), torch.randn(4, 6)
    with torch.no_grad(), meter(model, steps_outside=True) as m:
        model(x)
        z = model.z
        model(x)
        activity = m.activity()
    assert sum(float(r.acs.sum()) for r in activity.synapses) in (6 * float(z.sum()), 0.0)


class Prefixed(nn.Module):
    """Rows by the name a user gave: modules, parameters, lists, tied weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.layers[1].weight = self.layers[0].weight
        self.free = nn.Parameter(torch.randn(6, 3))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = spike(layer(x))
        return spike(self.normed(x)) @ self.free


def test_names():
    found = counted(Prefixed(), torch.randn(4, 6))
    assert list(found) == ["layers.0", "layers.1", "normed", "free"]
    assert [row.quantum for row in found.values()] == [None, 1, 1, 1]


def test_products_on_one_line_are_not_mixed_up():
    """Values times values and events times events, written in one line: each keeps its operations."""

    class OneLine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = spike(x)
            return self.layer(z @ z.mT @ z + x @ x.mT @ x)

    x = torch.randn(3, 5, 4)
    z = spike(x)
    found = counted(OneLine(), x)
    pairs = (z @ z.mT).sum() + ((z @ z.mT != 0).float() @ z).sum()
    values = 2 * 3 * 5 * 5 * 4
    layer = sum(reached(nn.Linear(4, 2), torch.ones(3, 5, 4)))
    total = sum(sum(row.operations) for row in found.values())
    assert total == float(pairs) + values + layer


class Flags(nn.Module):
    """What it computes depends on an argument that is no tensor, or on a flag of a part."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 3)
        self.fire = Fire()

    def forward(self, x: Tensor, graded: bool = False) -> Tensor:
        h = self.first(x)
        return self.last(h if graded else self.drop(self.fire(h)))


class Fire(nn.Module):
    def forward(self, v: Tensor) -> Tensor:
        return spike(v)


def test_quick_counting_with_arguments_that_are_no_tensors():
    model, x = Flags().eval(), torch.randn(4, 6)
    z = spike(model.first(x))
    with torch.no_grad(), meter(model) as m:
        model(x)
        assert rows(m.activity())["last"].acs == reached(model.last, z)
        model(x, graded=True)
        row = rows(m.activity())["last"]
        assert row.quantum is None and row.macs == [18.0] * 4


def test_quick_counting_when_a_part_changes_its_mode():
    """Dropout in training sends events of twice the height: still one accumulate each."""
    model, x = Flags().eval(), torch.randn(4, 6)
    with torch.no_grad(), meter(model) as m:
        model(x)
        m.activity()
        model.drop.train()
        handle = []
        hook = model.last.register_forward_pre_hook(lambda _, given: handle.append(given[0]))
        model(x)
        hook.remove()
        assert rows(m.activity())["last"].acs == reached(model.last, handle[0] != 0)
