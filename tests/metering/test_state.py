"""What a measurement leaves behind: nothing."""

import gc
import weakref

import pytest
import torch
from metered import rows
from styles import STYLES, HiddenNet, images, spike
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.metering import KeptState, meter


class Fails(nn.Module):
    """Raises in the middle, if told."""

    def __init__(self, error: type[BaseException] | None = None):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        z = spike(self.first(x))
        if self.error is not None:
            raise self.error("on purpose")
        return self.second(z)


class Catches(nn.Module):
    """Survives the failure of a part."""

    def __init__(self):
        super().__init__()
        self.bad, self.layer, self.last = Fails(ValueError), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        try:
            self.bad(x)
        except ValueError:
            pass
        return self.last(spike(self.layer(x)))


def _clean(model: nn.Module) -> None:
    assert _get_current_dispatch_mode_stack() == []
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._forward_hooks_always_called and not module._forward_hooks_with_kwargs


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
    while _get_current_dispatch_mode_stack():  # a failing test must not spoil the next
        _pop_mode()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("quick", [True, False])
def test_an_exception_leaves_nothing(error: type[BaseException], quick: bool):
    model, x = Fails(), torch.randn(4, 6)
    with pytest.raises(error), torch.no_grad(), meter(model, quick=quick) as m:
        model(x)
        m.activity()
        model.error = error
        model(x)
    _clean(model)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_first_call_leaves_nothing(error: type[BaseException]):
    model = Fails(error)
    with pytest.raises(error), meter(model):
        model(torch.randn(4, 6))
    _clean(model)
    with pytest.raises(error):
        pj.measure(model, [torch.randn(4, 6)])
    _clean(model)


def test_a_failed_call_counts_nothing_and_the_next_one_is_whole():
    model, x = Fails(), torch.randn(4, 6)
    with torch.no_grad(), meter(model) as m:
        model(x)
        want = rows(m.activity())
        model.error = ValueError
        with pytest.raises(ValueError):
            model(x)
        with pytest.raises(BadInput, match="nothing was metered"):
            m.activity()
        model.error = None
        for _ in range(2):
            model(x)
            assert rows(m.activity()) == want


def test_a_failure_that_the_model_survives():
    """What ran before the failure was computed, and counts."""
    model, x = Catches(), torch.randn(4, 6)
    want = [3 * n for n in spike(model.layer(x)).sum(1).tolist()]
    with torch.no_grad(), meter(model) as m:
        for _ in range(3):
            model(x)
            found = rows(m.activity())
            assert set(found) == {"bad.first", "layer", "last"}
            assert found["last"].acs == want
            assert found["last"].quantum == 1 and found["bad.first"].macs == [30.0] * 4


def test_batches_that_fail():
    model = Fails()

    def batches():
        yield torch.randn(4, 6)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        pj.measure(model, batches())
    _clean(model)
    assert all(m.training for m in model.modules())


def test_a_model_that_returns_nothing_while_an_exception_is_handled():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> None:
            self.layer(x)

    model = Silent()
    try:
        raise KeyError("handled below")
    except KeyError:
        with torch.no_grad(), meter(model) as m:
            model(torch.randn(2, 6))
            assert rows(m.activity())["layer"].macs == [30.0, 30.0]


@pytest.mark.parametrize("name", STYLES)
def test_a_measurement_restores_the_model(name: str):
    style = STYLES[name]
    model = style.make().train()
    model(style.x(3))
    before = {id(m): {k: v for k, v in vars(m).items() if not k.startswith("_")} for m in model.modules()}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    training = [m.training for m in model.modules()]
    pj.measure(model, [style.x(2), style.x(4)], batch_dim=style.batch_dim)
    _clean(model)
    assert training == [m.training for m in model.modules()]
    for module in model.modules():
        assert set(before[id(module)]) == {k for k in vars(module) if not k.startswith("_")}
    for n, b in model.named_buffers():
        assert torch.equal(b, buffers[n]), n


def test_kept_state():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(3))
            self.states: list[Tensor] = [torch.ones(2)]
            self.memory: dict[str, Tensor | float] = {"v": 0.0}
            self.number = 1

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1  # pyright: ignore
            self.states.append(x)
            self.states[0].mul_(2)
            self.memory["v"] = x
            self.number += 1
            self.late = x  # pyright: ignore
            return x

    model = nn.Sequential(Keeps())
    own = model[0]
    assert isinstance(own, Keeps)
    seen, memory = own.seen, own.memory
    with KeptState(model):
        model(torch.ones(2))
        model(torch.ones(2))
    assert own.number == 1 and not hasattr(own, "late")
    assert torch.equal(own.seen, torch.zeros(3)) and [s.tolist() for s in own.states] == [[1.0, 1.0]]  # pyright: ignore
    assert own.memory == {"v": 0.0} and own.memory is memory
    assert own.seen is seen, "an optimiser or another module may hold the same buffer"


def test_tags_do_not_stay_on_tensors_or_in_memory():
    model, x = HiddenNet(), images(3, 2)
    with torch.no_grad(), meter(model, batch_dim=1, quick=False) as m:
        y = model(x)
        m.activity()
        assert not vars(x) and not vars(y)
        gone = weakref.ref(y)
        del y
        assert gone() is None
    assert len(m._tags) == 0


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_many_passes_leak_no_objects(quick: bool, grad: bool):
    model, x = STYLES["cells"].make(), torch.randn(3, 2, 6)
    sizes, tags = [], []
    with torch.set_grad_enabled(grad), meter(model, batch_dim=1, quick=quick) as m:
        for i in range(80):
            y = model(x)
            m.activity()
            if grad:
                y.sum().backward()
            if i % 10 == 9:
                gc.collect()
                sizes.append(len(gc.get_objects()))
                tags.append(len(m._tags))
    assert min(sizes[4:]) - max(sizes[:4]) < 20
    assert min(tags[4:]) <= max(tags[:4])


@pytest.mark.parametrize("quick", [True, False])
def test_memory_does_not_grow_with_the_number_of_batches(quick: bool):
    """As many tensors are alive after the last batch as after the third."""
    model = STYLES["hidden"].make()
    alive = []
    with torch.no_grad(), meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(10):
            model(images(2, 2))
            m.activity()
            gc.collect()
            alive.append(sum(issubclass(type(o), Tensor) for o in gc.get_objects()))
    assert alive[-1] == alive[2]


def test_one_pass_measures_the_same_twice():
    style = STYLES["hidden"]
    model, x = style.make(), style.x(3)
    first, second = (pj.measure(model, [x, x], batch_dim=1).to_dict() for _ in range(2))
    assert first == second


def test_state_carried_from_batch_to_batch_is_put_back():
    """A model that never resets: each batch of a measurement starts where the first one did."""

    class Forgets(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.v = nn.Linear(6, 5), torch.zeros(())

        def forward(self, x: Tensor) -> Tensor:
            self.v = self.v + x
            return self.layer(spike(self.v - 0.5))

    model, x = Forgets(), torch.rand(4, 6)
    once = pj.measure(model, [x]).counts.total("acs")
    thrice = pj.measure(model, [x, x, x]).counts.total("acs")
    assert float(once) == float(thrice) and model.v.shape == ()
