"""Counting by hooks equals classifying every batch, and says so where it cannot."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from metered import Row, counted, reached, rows
from styles import spike
from torch import Tensor, nn

import picojoule as pj
from picojoule.energy import count
from picojoule.metering import ChangedPath, meter


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Fire(nn.Module):
    """A neuron without state, as a module: hooks can listen to it."""

    def forward(self, v: Tensor) -> Tensor:
        return spike(v)


class Two(nn.Module):
    """Two layers of one size and a readout; how they are used is the sub-class's."""

    def __init__(self):
        super().__init__()
        self.fire = Fire()
        self.a, self.b, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.matrix = nn.Parameter(torch.randn(6, 6))


class Plain(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.fire(self.b(self.fire(self.a(x)))))


class Often(Two):
    """As many calls as the data say."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.fire(x)
        for _ in range(1 + int(x.sum().abs()) % 3):
            z = self.fire(self.a(z))
        return self.last(z)


class Branch(Two):
    """One layer or the other."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.fire(x)
        return self.last(self.fire(self.a(z) if x.sum() > 0 else self.b(z)))


class Skip(Two):
    """A layer that is left out."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.fire(self.a(x))
        return self.last(self.fire(self.b(z)) if x.sum() > 0 else z)


class Extra(Two):
    """A functional product that no hook sees, for some inputs."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.fire(self.a(x))
        if x.sum() < 0:
            z = self.fire(z @ self.matrix)
        return self.last(z)


class Kinds(Two):
    """The same layers, fed with events or with values."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.last(self.fire(h) if x.sum() > 0 else torch.relu(h))


class Shared(Two):
    """A layer fed with values first and with events then."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.fire(self.a(self.fire(self.a(x)))))


class SharedEvents(Two):
    """Scaled by a pool, the second time."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.fire(self.a(self.fire(x)))
        return self.last(self.fire(self.a(self.fire(z + x))))


class Keywords(Two):
    def forward(self, x: Tensor, *, gain: Tensor) -> Tensor:
        return self.last(input=self.fire(self.a(input=x * gain)))


class Nested(nn.Module):
    """The same part at two places, in a list and a dictionary."""

    def __init__(self):
        super().__init__()
        part = Plain()
        self.parts = nn.ModuleList([part, nn.Linear(3, 6), part])
        self.named = nn.ModuleDict({"readout": nn.Linear(3, 2)})

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return self.named["readout"](x)


def _both(model: nn.Module, batches: list[Tensor], **given: Tensor) -> tuple[list[dict[str, Row]], ...]:
    found = []
    for quick in (True, False):
        with torch.no_grad(), meter(model, quick=quick) as m:
            counts = []
            for x in batches:
                model(x, **given)
                counts.append(rows(m.activity()))
            found.append(counts)
    return tuple(found)


@pytest.mark.parametrize("kind", [Plain, Shared, SharedEvents, Nested])
def test_batches_of_different_sizes(kind: Callable[[], nn.Module]):
    model = kind()
    batches = [torch.randn(n, 6) for n in (4, 1, 4, 7, 2)]
    quick, classified = _both(model, batches)
    assert quick == classified


def test_keyword_arguments():
    quick, classified = _both(Keywords(), [torch.randn(4, 6) for _ in range(3)], gain=torch.tensor(2.0))
    assert quick == classified


def test_more_batches_than_between_two_audits():
    model = Plain()
    quick, classified = _both(model, [torch.randn(2, 6) for _ in range(70)])
    assert quick == classified


def test_a_shared_layer_is_one_row():
    model, x = SharedEvents(), torch.randn(4, 6)
    found = counted(model, x)
    z = spike(model.a(spike(x)))
    want = torch.tensor(reached(model.a, spike(x))) + torch.tensor(reached(model.a, spike(z + x)))
    assert found["a"].acs == want.tolist() and list(found) == ["a", "last"]


def test_a_layer_fed_with_both_is_values_in_all_calls_and_listed():
    model, x = Shared(), torch.randn(4, 6)
    with torch.no_grad(), meter(model) as m:
        model(x)
        row = rows(m.activity())["a"]
        z = spike(nn.functional.linear(x, model.a.weight, model.a.bias))
        want = [36 + 6 * float(n) for n in z.sum(1)]
        assert row.quantum is None and row.macs == want
        assert any("a:" in what and "values at others" in what for what in m.uncounted)


def test_nested_parts_have_their_first_name():
    found = counted(Nested(), torch.randn(4, 6))
    assert list(found) == ["parts.0.a", "parts.0.b", "parts.0.last", "parts.1", "named.readout"]


CHANGING = [Often, Branch, Skip, Extra, Kinds]


def _signs() -> list[Tensor]:
    """Batches of which every other one takes the other way."""
    return [sign * (torch.rand(4, 6) + 0.1 * i) - 0.05 for i in range(3) for sign in (1.0, -1.0)]


@pytest.mark.parametrize("kind", CHANGING)
def test_a_measurement_handles_control_flow_that_changes(kind: Callable[[], nn.Module]):
    """Every batch is counted along the way that it took; a layer is values if it was so in any batch."""
    model, batches = kind(), _signs()
    report = pj.measure(model, batches)
    each = [counted(model, x) for x in batches]
    got = {name: float(report.counts.sums[[0, 2], i].sum()) for i, name in enumerate(report.counts.layers)}
    want: dict[str, float] = {}
    for found in each:
        for name, row in found.items():
            want[name] = want.get(name, 0.0) + sum(row.operations)
    assert got == want


class Switched(Two):
    """A switch that no argument and no number of the data shows."""

    skip = False

    def forward(self, x: Tensor) -> Tensor:
        z = self.fire(self.a(x))
        return self.last(z if self.skip else self.fire(self.b(z)))


def test_a_user_is_told_to_classify_every_batch():
    model, x = Switched(), torch.randn(4, 6)
    with torch.no_grad(), meter(model) as m:
        model(x)
        m.activity()
        model.skip = True
        with pytest.raises(ChangedPath, match="took another path .* give quick=False"):
            model(x)
        for _ in range(2):  # and goes on
            model(x)
            assert list(rows(m.activity())) == ["a", "last"]


@pytest.mark.parametrize("kind", [Extra, Kinds])
def test_a_change_that_the_hooks_cannot_see_is_no_silent_mistake(kind: Callable[[], nn.Module]):
    model, batches = kind(), _signs()
    want = [counted(model, x) for x in batches]
    with torch.no_grad(), meter(model) as m:
        for x, whole in zip(batches, want, strict=True):
            try:
                model(x)
            except ChangedPath:
                return
            found = rows(m.activity())
            assert {n: sum(r.operations) for n, r in found.items()} == {n: sum(r.operations) for n, r in whole.items()}


def test_classifying_every_batch_follows_every_change():
    for kind in CHANGING:
        model = kind()
        with torch.no_grad(), meter(model, quick=False) as m:
            for x in _signs():
                model(x)
                one = rows(m.activity())
                alone = counted(model, x)
                assert {n: sum(r.operations) for n, r in one.items()} == {
                    n: sum(r.operations) for n, r in alone.items()
                }, kind


def test_training_and_evaluation_are_classified_each():
    """Batch norm and dropout change what a layer gets."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    x = torch.randn(4, 6)
    with torch.no_grad(), meter(model) as m:
        for training in (True, False, True, False):
            model.train(training)
            model(x)
            row = rows(m.activity())["2"]
            if not training:
                assert row.macs == [18.0] * 4
            else:
                assert sum(row.macs) < 72.0


def test_two_meters_on_two_models_and_on_one():
    first, second, x = Plain(), Plain(), torch.randn(4, 6)
    alone = [counted(first, x), counted(second, x)]
    with torch.no_grad(), meter(first) as a, meter(second) as b:
        for _ in range(3):
            first(x)
            second(x)
            assert [rows(a.activity()), rows(b.activity())] == alone
    with torch.no_grad(), meter(first) as a, meter(first) as b:
        for _ in range(3):
            first(x)
            assert rows(a.activity()) == rows(b.activity()) == alone[0]


@pytest.mark.parametrize("outer_first", [True, False])
def test_a_metered_model_inside_a_metered_model(outer_first: bool):
    inner = Plain()
    outer, x = nn.Sequential(nn.Linear(6, 6), inner), torch.randn(4, 6)
    want = counted(outer, x)
    order = (outer, inner) if outer_first else (inner, outer)
    with torch.no_grad(), meter(order[0]) as m0, meter(order[1]) as m1:
        mo, mi = (m0, m1) if outer_first else (m1, m0)
        for _ in range(3):
            outer(x)
            assert rows(mo.activity()) == want
            found = rows(mi.activity())
            assert {f"1.{name}": row.operations for name, row in found.items()} == {
                name: row.operations for name, row in want.items() if name != "0"
            }


def test_parts_called_on_their_own_are_not_lost_in_silence():
    """A user who calls the parts of a model one by one gets all of them, or is told how."""
    model, x = Plain(), torch.randn(4, 6)
    want = counted(model, x)
    with torch.no_grad(), meter(model) as m:
        try:
            model.forward(x)
            found = rows(m.activity())
        except pj.BadInput as error:
            assert "steps_outside" in str(error) or "whole model" in str(error)
        else:
            assert found == want


def test_a_part_called_on_its_own_does_not_change_what_the_whole_counts():
    """Both have inputs of one shape: hooks made for the part must not count the whole."""
    model, x = Plain(), torch.randn(4, 6)
    want = counted(model, x)
    with torch.no_grad(), meter(model) as m:
        try:
            model.a(x)
        except pj.BadInput:
            pass
        model(x)
        assert rows(m.activity()) == want


def test_parts_called_on_their_own_with_steps_outside():
    model, x = Plain(), torch.randn(4, 6)
    want = counted(model, x)
    with torch.no_grad(), meter(model, steps_outside=True) as m:
        model.forward(x)
        assert {n: r.operations for n, r in rows(m.activity()).items()} == {n: r.operations for n, r in want.items()}


class Step(nn.Module):
    """One time step, with its state inside or handed around."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u: Tensor = self.first(x) + (0.0 if v is None else 0.9 * v)
        z = spike(u - 0.2)
        return self.second(z), u - 0.2 * z


def _run(model: nn.Module, x: Tensor) -> Tensor:
    v: Any = None
    out = torch.zeros(())
    for step in x:
        y, v = model(step, v)
        out = out + y
    return out


def _steps_by_hand(model: Step, x: Tensor) -> list[float]:
    v: Any = None
    total = torch.zeros(x.shape[1])
    for step in x:
        h = model.first(step) + (0.0 if v is None else 0.9 * v)
        z = spike(h - 0.2)
        v = h - 0.2 * z
        total = total + 3 * z.sum(1)
    return total.tolist()


@pytest.mark.parametrize("grad", [True, False])
def test_one_call_per_time_step(grad: bool):
    model, x = Step(), torch.randn(4, 3, 6)
    want = _steps_by_hand(model, x)
    with torch.set_grad_enabled(grad), meter(model, steps_outside=True) as m:
        for _ in range(2):
            _run(model, x)
            activity = m.activity()
            found = rows(activity)
            assert found["second"].acs == want
            assert found["first"].macs == [4 * 30.0] * 3
            assert activity.samples == 3 and len(count(activity).by_step[1]) == 4
        assert m.uncounted == ()


def test_a_measurement_of_a_model_of_one_step():
    model, batches = Step(), [torch.randn(4, 3, 6), torch.randn(4, 2, 6)]
    report = pj.measure(model, batches, batch_dim=1, run=_run)
    whole = sum(sum(_steps_by_hand(model, x)) for x in batches) / 5
    assert float(report.counts.total("acs")) == pytest.approx(whole)
    assert report.counts.samples == 5 and report.counts.timesteps == 4
    assert report.uncounted == ()


def test_steps_outside_with_another_number_of_samples():
    model = Step()
    with torch.no_grad(), meter(model, steps_outside=True) as m:
        model(torch.randn(3, 6))
        with pytest.raises(pj.BadInput, match="expected 3 samples at every step, got 2; call activity"):
            model(torch.randn(2, 6))
        m._ledger = None
