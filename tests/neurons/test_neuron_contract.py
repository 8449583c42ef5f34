"""One battery that every neuron passes."""

import pytest
import torch

from picojoule.errors import BadInput
from picojoule.kinds import Events
from picojoule.neurons import IAF, LIF, CubaLIF, surrogate

NEURONS = {
    "lif": lambda: LIF(),
    "lif-slow": lambda: LIF(0.9, 0.7),
    "lif-soft": lambda: LIF(0.8, v_reset=None),
    "lif-hard-to-value": lambda: LIF(0.7, 1.0, v_reset=-0.3),
    "lif-initial": lambda: LIF(0.9, v_initial=0.6),
    "lif-multi-soft": lambda: LIF(0.9, 0.4, v_reset=None, max_events=4),
    "lif-multi-hard": lambda: LIF(0.9, 0.4, max_events=3),
    "lif-arctan": lambda: LIF(0.8, surrogate=surrogate("arctan")),
    "lif-learn": lambda: LIF(0.8, 1.2, learn_decay=True, learn_threshold=True),
    "lif-learn-multi": lambda: LIF(0.8, 0.6, v_reset=None, max_events=3, learn_decay=True, learn_threshold=True),
    "cuba-lif": lambda: CubaLIF(),
    "cuba-lif-soft": lambda: CubaLIF(0.5, 0.8, v_reset=None),
    "cuba-lif-multi": lambda: CubaLIF(0.5, 0.8, 0.4, v_reset=None, max_events=3),
    "cuba-lif-learn": lambda: CubaLIF(0.7, learn_synaptic_decay=True, learn_decay=True, learn_threshold=True),
    "iaf": lambda: IAF(),
    "iaf-hard": lambda: IAF(0.8, v_reset=0.0),
    "iaf-initial": lambda: IAF(v_initial=0.5),
    "iaf-multi": lambda: IAF(0.5, max_events=5),
    "iaf-learn": lambda: IAF(1.5, learn_threshold=True),
}
STEPS, BATCH = 7, 5

every_neuron = pytest.mark.parametrize("name", NEURONS)
every_shape = pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])


def _currents(shape: tuple[int, ...] = (4,), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(STEPS, BATCH, *shape, generator=generator).to(dtype) + 0.4


def _numbers(neuron: LIF) -> tuple[float, float]:
    with torch.no_grad():
        return float(neuron.decay), float(neuron.threshold)


def _same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@every_neuron
@every_shape
def test_emits_what_it_declares(name, shape):
    neuron = NEURONS[name]()
    events = neuron(_currents(shape))
    kind = neuron.emits
    assert isinstance(kind, Events) and kind.quantum == 1 and not kind.signed
    assert events.shape == (STEPS, BATCH, *shape)
    _same(events, events.round())
    assert events.min() == 0 and 0 < events.max() <= kind.most


@every_neuron
@every_shape
def test_calling_twice_gives_the_same_answer(name, shape):
    neuron, currents = NEURONS[name](), _currents(shape)
    _same(neuron(currents), neuron(currents))


@every_neuron
def test_permuting_samples_permutes_the_answer(name):
    neuron, currents = NEURONS[name](), _currents()
    order = torch.tensor([3, 0, 4, 2, 1])
    _same(neuron(currents[:, order]), neuron(currents)[:, order])


@every_neuron
def test_a_short_batch_changes_nothing(name):
    neuron, currents = NEURONS[name](), _currents()
    whole = neuron(currents)
    for size in (1, 2):
        _same(neuron(currents[:, :size]), whole[:, :size])
    _same(neuron(currents), whole)


@every_neuron
@pytest.mark.parametrize("cuts", [(1, 6), (3, 4), (2, 2, 3), (1,) * 7])
def test_a_stream_in_pieces_equals_the_whole(name, cuts):
    neuron, currents = NEURONS[name](), _currents((2, 3))
    whole, after_whole = neuron.advance(currents, neuron.initial_state(currents))
    pieces, state = [], neuron.initial_state(currents)
    for piece in currents.split(list(cuts)):
        events, state = neuron.advance(piece, state)
        pieces.append(events)
    _same(torch.cat(pieces), whole)
    for part, expected in zip(state, after_whole, strict=True):
        _same(part, expected)


@every_neuron
def test_step_by_step_equals_unroll(name):
    neuron, currents = NEURONS[name](), _currents()
    state = neuron.initial_state(currents)
    whole, after_whole = neuron.advance(currents, state)
    for current, events in zip(currents, whole, strict=True):
        state, step = neuron.step(state, current)
        _same(step, events)
    for part, expected in zip(state, after_whole, strict=True):
        _same(part, expected)


@every_neuron
@every_shape
def test_float32_and_float64_agree(name, shape):
    neuron, currents = NEURONS[name](), _currents(shape)
    narrow, wide = neuron(currents), neuron(currents.double())
    assert narrow.dtype == torch.float32 and wide.dtype == torch.float64
    _same(narrow.double(), wide)


@every_neuron
def test_bfloat16_currents_give_bfloat16_events_of_a_float32_membrane(name):
    neuron, currents = NEURONS[name](), _currents(dtype=torch.bfloat16)
    events, state = neuron.advance(currents, neuron.initial_state(currents))
    assert events.dtype == torch.bfloat16 and state.v.dtype == torch.float32
    _same(events.float(), neuron(currents.float()))


@every_neuron
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite(name, dtype):
    neuron, currents = NEURONS[name](), _currents(dtype=dtype).requires_grad_()
    (neuron(currents) * torch.rand(STEPS, BATCH, 4, dtype=dtype)).sum().backward()
    for tensor in (currents, *neuron.parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and (tensor.grad != 0).any()


@every_neuron
def test_agrees_with_a_plain_loop(name):
    """The documented equation in Python numbers, one neuron at a time."""
    neuron, currents = NEURONS[name]().double(), _currents(dtype=torch.float64)
    decay, threshold = _numbers(neuron)
    with torch.no_grad():
        synaptic_decay = float(neuron.synaptic_decay) if isinstance(neuron, CubaLIF) else 0.0
        events, state = neuron.advance(currents, neuron.initial_state(currents))
    for b in range(BATCH):
        for j in range(4):
            v, i = neuron.v_initial, 0.0
            for t in range(STEPS):
                i = synaptic_decay * i + currents[t, b, j].item()
                v = decay * v + i
                n = sum(v >= k * threshold for k in range(1, neuron.max_events + 1))
                assert events[t, b, j].item() == n, (t, b, j)
                if n:
                    v = v - n * threshold if neuron.v_reset is None else neuron.v_reset
            assert state.v[b, j].item() == pytest.approx(v, abs=1e-12)
            if isinstance(neuron, CubaLIF):
                assert state.i[b, j].item() == pytest.approx(i, abs=1e-12)


@every_neuron
def test_does_not_write_into_its_input_or_state(name):
    neuron, currents = NEURONS[name](), _currents()
    state = neuron.initial_state(currents)
    kept, kept_state = currents.clone(), [part.clone() for part in state]
    neuron.advance(currents, state)
    _same(currents, kept)
    for part, expected in zip(state, kept_state, strict=True):
        _same(part, expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"decay": 0.0}, "0 < decay <= 1"),
        ({"decay": 1.1}, "0 < decay <= 1"),
        ({"decay": float("nan")}, "0 < decay <= 1"),
        ({"decay": 1.0, "learn_decay": True}, "cannot be learned"),
        ({"threshold": 0.0}, "threshold > 0"),
        ({"threshold": -1.0}, "threshold > 0"),
        ({"threshold": float("nan")}, "threshold > 0"),
        ({"threshold": float("inf")}, "threshold > 0 and finite, got inf"),
        ({"v_reset": 1.0}, "v_reset < threshold"),
        ({"max_events": 0}, "max_events >= 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(BadInput, match=message):
        LIF(**arguments)


@pytest.mark.parametrize("synaptic_decay", [0.0, 1.0, -0.5, float("nan")])
def test_a_bad_synaptic_decay(synaptic_decay):
    with pytest.raises(BadInput, match=r"expected 0 < synaptic_decay < 1, got"):
        CubaLIF(synaptic_decay)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (0, 2, 3)])
def test_bad_currents(shape):
    with pytest.raises(BadInput, match=r"expected currents \[T, B, \.\.\.\]"):
        LIF()(torch.zeros(shape))


def test_learned_values_start_where_asked_and_stay_in_range():
    neuron = LIF(0.8, 1.3, learn_decay=True, learn_threshold=True)
    assert _numbers(neuron) == pytest.approx((0.8, 1.3))
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.sub_(3)
    decay, threshold = _numbers(neuron)
    assert 0 < decay < 0.8 and 0 < threshold < 1.3
    assert not list(LIF().parameters()) and len(list(IAF(learn_threshold=True).parameters())) == 1


def test_a_learned_synaptic_decay_starts_where_asked_and_stays_in_range():
    neuron = CubaLIF(0.7, learn_synaptic_decay=True)
    (parameter,) = neuron.parameters()
    with torch.no_grad():
        assert float(neuron.synaptic_decay) == pytest.approx(0.7)
        parameter.sub_(3)
        assert 0 < float(neuron.synaptic_decay) < 0.2
    assert not list(CubaLIF().parameters())


def test_without_memory_the_synaptic_current_is_the_input():
    currents = _currents()
    _same(CubaLIF(1e-30, 0.6)(currents), LIF(0.6)(currents))


def test_repr_names_its_values():
    assert "decay=0.9" in repr(LIF(0.9)) and "decay=0.8" in repr(LIF(0.8, learn_decay=True))
    assert "threshold=2" in repr(IAF(2.0))
    assert "synaptic_decay=0.7, decay=0.9" in repr(CubaLIF(0.7, learn_synaptic_decay=True))
