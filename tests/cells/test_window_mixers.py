"""Both window mixers against plain loops over single numbers, and what every cell keeps."""

import itertools
import math
import re
from typing import Any

import pytest
import torch
from torch import nn

from picojoule.cells import WindowConvolution, WindowLSTM, WindowRules, draw_noise
from picojoule.errors import BadInput
from picojoule.kinds import Events, Values
from picojoule.neurons import IAF, LIF, CubaLIF, WindowNeuron

DECAY, THRESHOLD = 0.4, 0.5
both = pytest.mark.parametrize("kind", [WindowConvolution, WindowLSTM])


def maps(size=4, width=1, batch=3, steps=1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 1.5 * torch.rand(steps, batch, size, size, width, generator=generator, dtype=torch.float64)


def made(kind, width=1, size=4, window=2, **settings) -> Any:
    torch.manual_seed(3)
    neuron = settings.pop("neuron", None)
    cell = kind(width, size, window, WindowRules(**settings), neuron=neuron).double().eval()
    with torch.no_grad():
        for parameter in cell.parameters():
            if parameter.dim():
                parameter.mul_(4)
    return cell


def noise_of(cell, x) -> torch.Tensor:
    """The noise that evaluation draws: one number per window, sample and element."""
    shape = (len(x), cell.plan.windows, x.shape[1], cell.window, cell.window, x.shape[-1])
    return torch.rand(shape, generator=torch.Generator().manual_seed(cell.rules.seed), dtype=x.dtype)


def projected(a: float, b: float, kind: str) -> float:
    if kind == "sincos":
        return 2 * math.sin(math.pi / 4 * a * math.cos(math.pi / 4 * b))
    return {"mean": (a + b) / 2, "carry": b, "zero": 0.0}[kind]


def corners(size: int, window: int) -> list[tuple[int, int]]:
    far = size - window
    return [(0, 0), (0, far), (far, 0), (far, far)]


def convolved(image: list[list[float]], weight, bias: float) -> list[list[float]]:
    """A 3 x 3 convolution of one channel with zero padding, number by number."""
    side = len(image)
    out = [[bias] * side for _ in range(side)]
    for i, j, r, c in itertools.product(range(side), range(side), range(3), range(3)):
        y, x = i + r - 1, j + c - 1
        if 0 <= y < side and 0 <= x < side:
            out[i][j] += float(weight[0, 0, r, c]) * image[y][x]
    return out


def averaged(parts: list[list[list[float]]], size: int, window: int) -> list[list[float]]:
    """Each place is the average over the left and right windows of the average over the upper and lower ones."""
    whole = [[0.0] * size for _ in range(size)]
    for i, j in itertools.product(range(size), range(size)):
        rows = [
            [part[i - top][j - left] for part, (top, left) in zip(parts, corners(size, window), strict=True)
             if top == at and 0 <= i - top < window and 0 <= j - left < window]
            for at in (0, size - window)
        ]  # fmt: skip
        means = [sum(row) / len(row) for row in rows if row]
        whole[i][j] = sum(means) / len(means)
    return whole


@torch.no_grad()
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("projection", ["sincos", "mean", "carry", "zero"])
def test_one_channel_by_hand(window, projection):
    cell, x = made(WindowConvolution, window=window, projection=projection), maps()
    y, after = cell.advance(x, cell.initial_state(x))
    noise, fired = noise_of(cell, x), 0.0
    w1, w2 = (c.layer.weight for c in (cell.conv1, cell.conv2))
    b1, b2 = (float(c.layer.bias) for c in (cell.conv1, cell.conv2))
    for sample in range(3):
        u1 = u2 = [[0.0] * window for _ in range(window)]
        spikes = []
        for k, (top, left) in enumerate(corners(4, window)):
            places = list(itertools.product(range(window), range(window)))
            z = [[0.0] * window for _ in range(window)]
            for i, j in places:
                z[i][j] = float(x[0, sample, top + i, left + j, 0] > noise[0, k, sample, i, j, 0])
            i1, before = convolved(z, w1, b1), u1
            u1 = [[DECAY * u1[i][j] + i1[i][j] for j in range(window)] for i in range(window)]
            s1 = [[float(u > THRESHOLD) for u in row] for row in u1]
            i2 = convolved(s1, w2, b2)
            u2 = [
                [DECAY * projected(before[i][j], u2[i][j], projection) + i2[i][j] for j in range(window)]
                for i in range(window)
            ]
            spikes.append([[float(u > THRESHOLD) for u in row] for row in u2])
            fired += sum(map(sum, s1))
        expected = torch.tensor(averaged(spikes, 4, window), dtype=torch.float64)
        torch.testing.assert_close(y[0, sample, :, :, 0], expected, rtol=0, atol=1e-6)
        for found, own in ((after.first, u1), (after.second, u2)):
            torch.testing.assert_close(found[sample, :, :, 0], torch.tensor(own).double(), rtol=0, atol=1e-6)
    assert 0 < fired < 3 * 4 * window**2 and 0 < y.sum() < y.numel()


@torch.no_grad()
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("projection", ["sincos", "mean", "carry", "zero"])
def test_membranes_of_the_recurrent_mixer_by_hand(window, projection):
    neuron, x = WindowNeuron(DECAY, 0.1), maps(width=2)
    cell = made(WindowLSTM, width=2, window=window, projection=projection, neuron=neuron)
    handed = 3 * maps(width=4) - 1
    spikes, after = cell((x, handed))
    noise = noise_of(cell, x)
    u: list[torch.Tensor] = []
    slices = [handed[0, :, t : t + window, l : l + window] for t, l in corners(4, window)]  # noqa: E741
    for k, (top, left) in enumerate(corners(4, window)):
        z = (x[0, :, top : top + window, left : left + window] > noise[0, k]).double()
        current = cell.lstm(z.reshape(3, window**2, 2))[0].reshape(3, window, window, 4)
        a = u[0] if k == 1 else slices[k]
        b = u[-1] if k > 1 else slices[1]
        carried = [projected(float(p), float(q), projection) for p, q in zip(a.flatten(), b.flatten(), strict=True)]
        u.append(DECAY * torch.tensor(carried).double().reshape(current.shape) + current)
    for sample, channel in itertools.product(range(3), range(4)):
        for found, parts in ((after, u), (spikes, [(v > 0.1).double() for v in u])):
            whole = averaged([part[sample, :, :, channel].tolist() for part in parts], 4, window)
            torch.testing.assert_close(found[0, sample, :, :, channel], torch.tensor(whole).double(), atol=1e-6, rtol=0)
    assert 0 < spikes.sum() < spikes.numel()


def test_the_first_block_starts_from_zero_membranes():
    cell, x = made(WindowLSTM, width=2), maps(width=2)
    zeros = torch.zeros(1, 3, 4, 4, 4, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(cell(x), cell((x, zeros)), strict=True))


def test_one_window_hands_nothing_on_within_a_step():
    x = maps(width=2)
    answers = [made(WindowConvolution, 2, 4, 4, projection=p)(x) for p in ("sincos", "zero")]
    assert torch.equal(*answers)
    cell, handed = made(WindowLSTM, 2, 4, 4), maps(width=4)
    difference = cell((x, handed))[1] - cell(x)[1]
    torch.testing.assert_close(difference, DECAY * handed)


@both
@pytest.mark.parametrize("encoder", ["bernoulli", "straight-through", "threshold"])
def test_gradients_to_the_input(kind, encoder):
    cell, x = made(kind, width=2, window=3, encoder=encoder), maps(width=2).requires_grad_()
    y = cell(x)
    spikes = y if isinstance(y, torch.Tensor) else y[0]
    grads = torch.autograd.grad(spikes.sum(), [x, *cell.parameters()], allow_unused=True)
    assert grads[0] is None if encoder == "bernoulli" else grads[0].abs().sum() > 0
    assert all(g is not None and torch.isfinite(g).all() and (g != 0).any() for g in grads[1:])


def test_gradients_run_back_through_all_windows():
    cell, x = made(WindowConvolution, width=2), maps(width=2)
    _, _, seen = cell.forward_observed(x, cell.initial_state(x))
    last = seen["neuron2"][0, :, 3].sum()
    (grad,) = torch.autograd.grad(last, seen["conv2"])
    assert all((grad[k] != 0).any() for k in range(4))
    cell = made(WindowConvolution, width=2, projection="zero")
    _, _, seen = cell.forward_observed(x, cell.initial_state(x))
    (grad,) = torch.autograd.grad(seen["neuron2"][0, :, 3].sum(), seen["conv2"])
    assert not grad[:3].any() and grad[3].any()


@both
def test_nothing_is_kept_between_calls(kind):
    cell, x = made(kind, width=2, window=3), maps(width=2)
    first = cell(x)
    cell(maps(width=2, batch=2))
    cell(maps(width=2, batch=5))
    assert all(torch.equal(a, b) for a, b in zip(first, cell(x), strict=True))
    cell.train()
    torch.manual_seed(5)
    noisy = cell(x)
    other = cell(x)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(noisy, cell(x), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(noisy, other, strict=True))


@both
def test_evaluation_can_draw_other_noise(kind):
    cell, x = made(kind, width=2, seed=5), maps(width=2)
    model = nn.ModuleList([cell])
    found = []
    for stream in (0, 1, 2, 0):
        draw_noise(model, stream)
        found.append(cell(x)[-1])  # the last step, or membranes
    assert torch.equal(found[0], made(kind, width=2, seed=5)(x)[-1]) and torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


@both
def test_a_generator_of_ones_own(kind):
    cell, x = made(kind, width=2), maps(width=2)
    given = torch.Generator().manual_seed(9)
    own = cell.initial_state(x)._replace(noise=given.get_state())
    twin = made(kind, width=2, seed=9)
    for a, b in zip(cell.advance(x, own)[0], twin(x), strict=True):
        assert torch.equal(a, b)


@both
@pytest.mark.parametrize("cuts", [(1, 3), (2, 2), (1, 1, 1, 1)])
def test_in_pieces_equals_the_whole(kind, cuts):
    cell, x = made(kind, width=2, window=3), maps(width=2, steps=4)
    whole, last = cell.advance(x, cell.initial_state(x))
    state, pieces = cell.initial_state(x), []
    for piece in x.split(list(cuts)):
        y, state = cell.advance(piece, state)
        pieces.append(y if isinstance(y, torch.Tensor) else y[0])
    torch.testing.assert_close(torch.cat(pieces), whole if isinstance(whole, torch.Tensor) else whole[0])
    torch.testing.assert_close(tuple(state), tuple(last))


@both
@pytest.mark.parametrize("window", [2, 3, 4])
def test_reports_what_entered_and_what_was_sent(kind, window):
    cell, x = made(kind, width=2, window=window), maps(width=2)
    state = cell.initial_state(x)
    y, _, seen = cell.forward_observed(x, state)
    plain = cell.advance(x, state)[0]
    assert all(torch.equal(a, b) for a, b in zip(y, plain, strict=True))
    assert [s.name for s in cell.synapses()] + [p.name for p in cell.populations()] == list(seen)
    windows = 1 if window == 4 else 4
    for synapse in cell.synapses():
        assert seen[synapse.name].shape[:2] == (windows, 3)
    for population in cell.populations():
        assert seen[population.name].shape[:3] == (1, 3, windows)
        assert set(seen[population.name].unique().tolist()) <= {0.0, 1.0}


def test_the_lstm_reports_what_it_hands_to_itself():
    cell, x = made(WindowLSTM, width=2), maps(width=2)
    seen = cell.forward_observed(x, cell.initial_state(x))[2]
    z = seen["forwards_input"][1, :1]  # the second window of the first sample
    cells = [nn.LSTMCell(2, 2).double() for _ in range(2)]
    for own, suffix in zip(cells, ("_l0", "_l0_reverse"), strict=True):
        own.load_state_dict({k: getattr(cell.lstm, k + suffix) for k in own.state_dict()})
    for name, own, order in (("forwards", cells[0], range(4)), ("backwards", cells[1], range(3, -1, -1))):
        state = (torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
        for token in order:
            torch.testing.assert_close(seen[name][1, :1, token], state[0])
            state = own(z[:, token], state)


def test_kinds():
    unit, quarters = Events(most=1), Events(0.25, most=4)
    assert made(WindowConvolution).emits == unit == made(WindowConvolution, window=4).emits
    assert made(WindowConvolution, window=3).emits == quarters
    assert made(WindowConvolution, window=3, stitch="any").emits == unit
    assert made(WindowLSTM, window=3).emits == (quarters, Values())
    assert made(WindowLSTM, window=3, neuron=WindowNeuron(analog=True)).emits == (Values(), Values())
    y = made(WindowConvolution, width=2, window=3)(maps(width=2))
    assert set((4 * y).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0} and ((4 * y) % 4 != 0).any()


def test_the_analog_twin_rectifies():
    cell, x = made(WindowConvolution, width=2, window=3, stitch="any", neuron=WindowNeuron(analog=True)), maps(width=2)
    assert cell.initial_state(x).noise is None
    y, _, seen = cell.forward_observed(x - 0.5, cell.initial_state(x))
    assert y.min() >= 0 and len(y.unique()) > 5 and (seen["conv1"] == 0).any()
    assert seen["conv1"].max() == (x - 0.5).max()
    assert [p.kind for p in cell.populations()] == [None, None]


@pytest.mark.parametrize("projection, factor", [("sincos", 1.75), ("mean", 1.75), ("carry", 1), ("zero", 1)])
def test_a_projection_is_an_update_of_its_own(projection, factor):
    first, second = made(WindowConvolution, projection=projection).populations()
    assert (first.updates, second.updates) == (1, factor)
    (recurrent,) = made(WindowLSTM, projection=projection).populations()
    assert recurrent.updates == (2 if factor > 1 else 1)


def test_learned_thresholds_and_decays():
    neuron: Any = WindowNeuron(learn_decay=True, learn_threshold=True).double()
    assert neuron.threshold.item() == pytest.approx(0.5) and neuron.decay.item() == pytest.approx(0.4)
    v = torch.tensor([-0.1, 0.01, 0.2, 0.99, 1.01, 3.0], dtype=torch.float64, requires_grad=True)
    s = neuron(v)
    assert s.tolist() == [0, 0, 0, 1, 1, 1]
    by_v, by_log = torch.autograd.grad(s.sum(), (v, neuron.threshold_log))
    assert by_v.tolist() == [0, 1, 1, 1, 0, 0]
    torch.testing.assert_close(by_log, -3 * neuron.threshold.detach())  # threshold is the slope of its logarithm's exp
    cell = made(WindowConvolution, width=2, neuron=neuron)
    learned = [cell.first_neuron.threshold_log, cell.neuron.threshold_log, cell.first_neuron.decay_logit]
    assert all(g.abs() > 0 for g in torch.autograd.grad(cell(maps(width=2)).sum(), learned))


def test_both_forms_of_one_step_learn_the_same_parameters():
    lif, window = (kind(0.4, 1000.0, learn_decay=True, learn_threshold=True) for kind in (LIF, WindowNeuron))
    assert {k: v.item() for k, v in lif.state_dict().items()} == {k: v.item() for k, v in window.state_dict().items()}
    assert torch.as_tensor(window.threshold).item() == pytest.approx(1000)


def test_spikes_are_strictly_above_the_threshold():
    assert WindowNeuron()(torch.tensor([0.5, torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))])).tolist() == [0, 1]


def test_neurons_of_other_kinds():
    lif = LIF(0.7, 0.3, learn_decay=True)
    found: Any = WindowNeuron.like(lif)
    assert found.decay.item() == pytest.approx(0.7) and found.threshold == 0.3 and found.decay_logit is not None
    assert found.surrogate is lif.surrogate and WindowNeuron.like(found) is found
    assert WindowNeuron.like(nn.ReLU()).analog and WindowNeuron.like(IAF(0.2)).decay == 1
    for wrong in (CubaLIF(), nn.GELU()):
        with pytest.raises(BadInput, match=f"window mixers take the neuron lif, or ReLU, got {type(wrong).__name__}"):
            WindowNeuron.like(wrong)


@pytest.mark.parametrize(
    "lif, named",
    [
        (LIF(v_reset=None), "LIF(v_reset=None); leave v_reset out"),
        (LIF(v_reset=0.1), "LIF(v_reset=0.1); leave v_reset out"),
        (IAF(v_reset=0.0), "IAF(v_reset=0.0); leave v_reset out"),
        (LIF(v_initial=0.2), "LIF(v_initial=0.2); leave v_initial out"),
        (LIF(max_events=3), "LIF(max_events=3); leave max_events out"),
    ],
)
def test_what_window_neurons_lack_is_refused(lif, named):
    with pytest.raises(BadInput, match=re.escape(f"do not reset, rest at 0 and send one event at most, got {named}")):
        WindowNeuron.like(lif)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: WindowConvolution(2, 4, 5), "expected windows no larger than the grid of side 4, got side 5"),
        (lambda: WindowRules(projection="sin"), "unknown projection 'sin'"),
        (lambda: WindowRules(stitch="or"), "unknown stitch 'or'"),
        (lambda: WindowRules(encoder="relu"), "unknown encoder 'relu'"),
        (lambda: WindowConvolution(2, 4, 2)(torch.zeros(2, 4, 4, 2)), r"maps \[T, B, 4, 4, 2\], got .*\(2, 4, 4, 2\)"),
        (lambda: WindowConvolution(2, 4, 2)(torch.zeros(7)), r"maps \[T, B, 4, 4, 2\], got shape \(7,\)"),
        (lambda: WindowConvolution(2, 4, 2)(torch.zeros(1, 2, 4, 4, 3)), r"maps \[T, B, 4, 4, 2\], got .*4, 3\)"),
        (lambda: WindowLSTM(2, 4, 2)(torch.zeros(1, 2, 4, 4, 3)), r"maps \[T, B, 4, 4, 2\], got .*4, 3\)"),
        (lambda: WindowLSTM(2, 4, 2)((torch.zeros(1, 1, 4, 4, 2),) * 3), "got 3 tensors"),
        (lambda: WindowLSTM(2, 4, 2)((torch.zeros(1, 1, 4, 4, 2),) * 2), r"membranes \[1, 1, 4, 4, 4\] of the block"),
        (
            lambda: WindowLSTM(2, 4, 2)((torch.zeros(1, 3, 4, 4, 2), torch.zeros(1, 1, 4, 4, 4))),
            r"membranes \[1, 3, 4, 4, 4\] of the block before .* got shape \(1, 1, 4, 4, 4\)",
        ),
        (lambda: WindowNeuron(decay=0), "expected 0 < decay <= 1, got 0"),
        (lambda: WindowNeuron(decay=1, learn_decay=True), "a decay of exactly 1 cannot be learned"),
        (lambda: WindowNeuron(threshold=0), "expected threshold > 0 and finite, got 0"),
        (lambda: WindowNeuron(threshold=math.inf), "expected threshold > 0 and finite, got inf"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInput, match=message):
        call()
