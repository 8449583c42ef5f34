"""The compiled neurons against the reference: events, states and every gradient."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neuron_cases import (
    KINDS,
    SURROGATES,
    VARIANTS,
    Case,
    assert_near,
    assert_same,
    by_kernel,
    by_reference,
    case,
    expected_gradients,
    fired,
    gradients,
    needs_kernels,
    saved_potentials,
)
from torch import Tensor

from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.native.library import using
from picojoule.kernels.saved import membranes_saved_in

pytestmark = needs_kernels
FLOAT64, FLOAT32, BFLOAT16 = 1e-12, 1e-5, 2**-8  # errors of gradients; bfloat16 rounds to 8 bits

every_variant = pytest.mark.parametrize("variant", VARIANTS)
two_variants = pytest.mark.parametrize("variant", sorted({*VARIANTS[:1], *VARIANTS[-1:]}))
every_kind = pytest.mark.parametrize("kind", KINDS)
every_surrogate = pytest.mark.parametrize("surrogate", SURROGATES)


@pytest.fixture(autouse=True)
def compiled():
    """Whatever PICOJOULE_KERNELS asks for, these tests are of the compiled kernels."""
    with using("auto"):
        yield


def check_float32(c: Case, monkeypatch) -> None:
    """Events and state equal to those of the reference bit by bit; gradients to rounding at the same spikes."""
    out = by_kernel(c)
    assert_same(out, by_reference(c))
    u = saved_potentials(c, torch.float32)
    assert_same([fired(u)], [out.events > 0])
    assert_near(gradients(out, c), expected_gradients(c, u, monkeypatch), FLOAT32)


@every_kind
@every_surrogate
@pytest.mark.parametrize("learned", [False, True])
@two_variants
def test_float64_agrees_with_the_reference(kind, surrogate, learned, variant):
    c = case(kind, surrogate, learned=learned, dtype=torch.float64)
    with using(variant):
        out = by_kernel(c)
        assert_same(out, (plain := by_reference(c)))
        assert out.events.sum() > 0
        assert_near(gradients(out, c), gradients(plain, c), FLOAT64)


@every_kind
@every_surrogate
@pytest.mark.parametrize("learned", [False, True])
def test_float32_agrees_with_the_reference(kind, surrogate, learned, monkeypatch):
    check_float32(case(kind, surrogate, learned=learned), monkeypatch)


@every_kind
@every_surrogate
def test_membranes_saved_in_bfloat16_keep_the_spikes(kind, surrogate, monkeypatch):
    c = case(kind, surrogate)
    with membranes_saved_in(torch.bfloat16):
        out = by_kernel(c)
    assert_same(out, by_kernel(c))
    u = saved_potentials(c, torch.bfloat16)
    assert_same([fired(u), u], [out.events > 0, saved_potentials(c, torch.float32).bfloat16()])
    assert_near(gradients(out, c), expected_gradients(c, u, monkeypatch), FLOAT32)


@every_kind
@every_variant
def test_learned_parameters_need_the_membranes_in_float32(kind, variant, monkeypatch):
    c = case(kind, learned=True)
    with using(variant), membranes_saved_in(torch.bfloat16):
        check_float32(c, monkeypatch)


@every_kind
@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("learned", [False, True])
@every_variant
def test_bfloat16_currents(kind, saved, learned, variant, monkeypatch):
    """Events are exact for the rounded currents; the state is kept in float32."""
    c = case(kind, learned=learned, dtype=torch.bfloat16)
    with using(variant), membranes_saved_in(saved):
        out = by_kernel(c)
    exact = by_reference(c.to(torch.float32))
    assert out.events.dtype == torch.bfloat16 and out.v.dtype == out.sent.dtype == torch.float32
    assert_same([out.events.float(), *out[1:]], exact)
    u = saved_potentials(c, torch.float32 if learned else saved)
    currents, *rest = gradients(out, c)
    expected, *expected_rest = expected_gradients(c, u, monkeypatch)
    assert currents.dtype == torch.bfloat16
    assert_near([currents], [expected], BFLOAT16)
    assert_near(rest, expected_rest, FLOAT32)


@every_kind
@every_variant
@pytest.mark.parametrize("learned", [False, True])
def test_membranes_exactly_at_the_threshold(kind, variant, learned, monkeypatch):
    """They fire, in forward and in backward."""
    c = case(kind, shape=(12, 1, 200), learned=learned)
    halves = [torch.tensor(0.5, requires_grad=True) for _ in range(2)] if learned else [0.5, 0.5]
    c = c._replace(
        currents=(c.currents.detach() * 4).round().div(4).requires_grad_(),
        v=torch.zeros(200),
        i=None if c.i is None else torch.zeros(200),
        decay=halves[0],
        synaptic_decay=None if c.i is None else halves[1],
    )
    assert (saved_potentials(c, torch.float32) == 0).sum() > 20
    with using(variant):
        check_float32(c, monkeypatch)
        with membranes_saved_in(torch.bfloat16):
            u = saved_potentials(c, torch.float32 if learned else torch.bfloat16)
            assert_near(gradients(by_kernel(c), c), expected_gradients(c, u, monkeypatch), FLOAT32)


SIZES = [1, 3, 15, 16, 17, 31, 511, 512, 513, 2047, 2049, 8 * 2048 - 1, 8 * 2048 + 5]


@every_variant
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_size(variant, size, steps, monkeypatch):
    with using(variant):
        for kind in ("lif-soft", "cuba-hard"):
            check_float32(case(kind, shape=(steps, 1, size), learned=size % 2 == 1), monkeypatch)


@every_kind
def test_a_hundred_steps(kind, monkeypatch):
    check_float32(case(kind, shape=(100, 2, 83), learned=True), monkeypatch)
    c = case(kind, shape=(100, 2, 83), dtype=torch.float64, learned=True)
    assert_near(gradients(by_kernel(c), c), gradients(by_reference(c), c), FLOAT64)


@pytest.mark.parametrize("shape", [(4, 0, 5), (4, 3, 0), (1, 0, 0), (0, 2, 3)])
@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
@pytest.mark.parametrize("learned", [False, True])
def test_nothing_to_do(shape, kind, learned):
    c = case(kind, shape=shape, learned=learned)
    out = by_kernel(c)
    assert out.events.shape == shape and out.sent.shape == out.v.shape == shape[1:]
    assert_same([out.v, out.sent], [c.v, torch.zeros(shape[1:])])
    found = gradients(out, c)
    assert [g.shape for g in found] == [x.shape for x in c.leaves()]
    assert all((g == 0).all() for g in found if g.dim() == 0)


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "batch and time swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "time last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "channels-last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
    "steps apart": lambda x: torch.stack([x, x + 9], 1)[:, 0],
    "neurons apart": lambda x: torch.stack([x, x + 9], -1)[..., 0],
    "samples apart": lambda x: torch.cat([x, x + 9], 1)[:, : x.shape[1]],
    "an offset": lambda x: torch.cat([x.new_ones(3), x.flatten()])[3:].view(x.shape),
    "flipped axes": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "a negative bit": lambda x: torch.complex(x.float(), -x.float()).conj().imag.to(x.dtype),
    "odd strides of single axes": lambda x: x.as_strided(
        x.shape, [s if n > 1 else 7 for s, n in zip(x.stride(), x.shape, strict=True)]
    ),
}
EXPANDED = {
    "one step for all": lambda x: x[:1].expand_as(x),
    "one sample for all": lambda x: x[:, :1].expand_as(x),
    "one neuron for all": lambda x: x[..., :1].expand_as(x),
    "one number for all": lambda x: x[:1, :1, :1, :1].expand_as(x),
    "one step, channels-last": lambda x: LAYOUTS["channels-last"](x)[:1].expand_as(x),
    "one step, neurons apart": lambda x: LAYOUTS["neurons apart"](x)[:1].expand_as(x),
}


@pytest.mark.parametrize("layout", LAYOUTS | EXPANDED)
@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
@pytest.mark.parametrize("shape", [(4, 2, 3, 5), (1, 2, 3, 5), (4, 1, 3, 1)])
def test_any_layout_of_the_currents(layout, kind, shape):
    c = case(kind, shape=shape, learned=True)
    currents = (LAYOUTS | EXPANDED)[layout](c.currents)
    laid, plain = (c._replace(currents=x.detach().requires_grad_()) for x in (currents, currents.contiguous()))
    out, expected = by_kernel(laid), by_kernel(plain)
    assert_same(out, expected)
    found, wanted = gradients(out, laid), gradients(expected, plain)
    own = 3 if c.kind.synaptic else 2
    assert_same(found[:-own], wanted[:-own])
    assert_near(found[-own:], wanted[-own:], FLOAT32)  # sums, in the order of memory


@pytest.mark.parametrize("layout", LAYOUTS | EXPANDED)
@pytest.mark.parametrize("of_currents", ["contiguous", "channels-last", "steps apart", "one step for all"])
@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
def test_any_layout_of_the_gradients(layout, of_currents, kind):
    c = case(kind, shape=(4, 2, 3, 5), learned=True)
    c = c._replace(currents=(LAYOUTS | EXPANDED)[of_currents](c.currents).detach().requires_grad_())

    with_copies = gradients(by_kernel(c), c, lambda g: _laid(layout, g).contiguous())
    assert_same(gradients(by_kernel(c), c, partial(_laid, layout)), with_copies)


def _laid(layout: str, g: Tensor) -> Tensor:
    """A gradient `[T, *step]` or `[*step]` in a layout."""
    change = (LAYOUTS | EXPANDED)[layout]
    return change(g) if g.dim() == 4 else change(g[None])[0]


@pytest.mark.parametrize("layout", LAYOUTS | EXPANDED)
def test_any_layout_of_the_state(layout):
    c = case("cuba-soft", shape=(4, 2, 3, 5), learned=True)
    assert c.i is not None
    v, i = (_laid(layout, x).detach() for x in (c.v, c.i))
    a, b = c._replace(v=v.requires_grad_(), i=i.requires_grad_()), c._replace(v=v.clone(), i=i.clone())
    assert_same(by_kernel(a), by_kernel(b))
    b.v.requires_grad_()
    assert_same(gradients(by_kernel(a), a)[:2], gradients(by_kernel(b), b)[:2])


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 1), (2, 1, 1), (2, 3, 1)])
def test_a_state_that_broadcasts(shape):
    c = case("cuba-hard", shape=(4, 2, 3, 5), dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    v, i = (torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for _ in range(2))
    c = c._replace(v=v, i=i)
    out, plain = by_kernel(c), by_reference(c)
    assert_same(out, plain)
    assert_near(gradients(out, c), gradients(plain, c), FLOAT64)


def test_results_keep_the_layout_of_the_steps():
    x = torch.randn(4, 2, 3, 5, 5).movedim(2, -1).contiguous().movedim(-1, 2).requires_grad_()
    c = case("cuba-soft", shape=x.shape)._replace(currents=x)
    out = by_kernel(c)
    (g,) = torch.autograd.grad(out.events.sum(), x)
    assert out.events.stride() == g.stride() == x.stride()
    assert out.v.stride() == out.i.stride() == out.sent.stride() == x.stride()[1:]
    apart = torch.randn(8, 2, 3)[::2]
    assert by_kernel(case("iaf", shape=apart.shape)._replace(currents=apart)).events.is_contiguous()


shapes = st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(1, 40), st.integers(1, 3))


@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(sorted(SURROGATES)),
    shapes,
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from(sorted(LAYOUTS | EXPANDED)),
    st.booleans(),
    st.sampled_from(VARIANTS),
    st.floats(0.01, 100),
)
@settings(max_examples=60, deadline=None)
def test_any_case_agrees_with_the_reference(kind, surrogate, shape, layout, arriving, learned, variant, threshold):
    c = case(kind, surrogate, shape, learned, torch.float64, threshold)
    c = c._replace(currents=LAYOUTS[layout](c.currents).detach().double().requires_grad_())
    if shape[1] == 0 and arriving in EXPANDED:
        arriving = "contiguous"
    with using(variant):
        out, plain = by_kernel(c), by_reference(c)
        if layout != "a negative bit":
            assert_same(out, plain)
        change = partial(_laid, arriving) if arriving != "a negative bit" else None
        assert_near(gradients(out, c, change), gradients(plain, c, change), 1e-10)


ODD_NUMBERS = [math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-40, -1e-40, 1e-45, 3e38, -3e38, 1.0, 0.25]


@every_kind
@every_surrogate
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@two_variants
def test_numbers_that_are_not_finite_or_tiny(kind, surrogate, dtype, variant):
    """They spread as in the reference; gradients are the same too, as far as they are finite there."""
    random = torch.Generator().manual_seed(2)
    numbers = torch.tensor(ODD_NUMBERS)
    c = case(kind, surrogate, (5, 1, 200), dtype=dtype)
    picked = numbers[torch.randint(len(numbers), (5, 1, 200), generator=random)]
    rare = torch.rand(5, 1, 200, generator=random) < 0.2
    c = c._replace(currents=torch.where(rare, picked, c.currents).detach().to(dtype).requires_grad_())
    with using(variant), membranes_saved_in(torch.float32):
        out = by_kernel(c)
    plain = by_reference(c)
    assert_same(out, plain)
    assert not torch.isfinite(out.v).all()
    found, expected = gradients(out, c)[0], gradients(plain, c)[0]
    assert_same([found.isnan()], [expected.isnan()])
    error = 2 * BFLOAT16 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(found, expected, rtol=error, atol=error, equal_nan=True)


@every_variant
def test_a_neuron_just_below_threshold_stays_silent_in_bfloat16(variant):
    """u = -2**-149 rounds to zero in bfloat16; the sign that is kept says that nothing was sent."""
    c = case("lif-hard", shape=(1, 1, 40), threshold=2.0**-126)
    c = c._replace(currents=torch.full((1, 1, 40), 2.0**-126 - 2.0**-149).requires_grad_(), v=torch.zeros(40))
    with using(variant), membranes_saved_in(torch.bfloat16):
        out = by_kernel(c)
        (kept,) = torch.autograd.grad(out.v.sum(), c.currents)
        u = saved_potentials(c, torch.bfloat16)
    assert (out.events == 0).all() and (u == 0).all()
    assert (kept == 1).all(), "the membrane was not reset, so its gradient passes"


@every_variant
def test_rounding_to_bfloat16_is_that_of_torch(variant):
    """For every upper half of a float, with lower halves around the tie; NaN stays NaN."""
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16
    x = (
        torch.cat([upper + lower for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
        .view(torch.float32)
        .view(1, 1, -1)
    )
    with using(variant):
        *_, kept = torch.ops.picojoule.integrate_and_fire.default(
            *(x, torch.zeros(()), None, None, None, None, [1.0, math.inf, 0.0]),
            *(0.0, 0, 1.0, 0.0, True, False, torch.bfloat16, None),
        )
    assert_same([kept], [x.bfloat16()])


@every_variant
@pytest.mark.parametrize("threshold", [1e3, 1e9, math.inf])
@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.v_reset is not None])
def test_learning_below_a_threshold_out_of_reach(variant, threshold, kind):
    """Leaky integrators: membranes are far below the threshold and must not drown in it."""
    c = case(kind, learned=True)
    c = c._replace(threshold=threshold)
    wide = c.to(torch.float64)
    with using(variant):
        found = torch.autograd.grad(by_kernel(c).v.sum(), c.leaves())
    assert_near(found, torch.autograd.grad(by_reference(wide).v.sum(), wide.leaves()), FLOAT32)


@every_kind
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@every_variant
def test_every_result_is_written_and_nothing_else(kind, streaming, dtype, variant, monkeypatch):
    """Results lie in memory full of NaN, between guards that must stay."""
    borders = []

    def guarded(x: Tensor, shape, strides, dtype: torch.dtype) -> Tensor:
        size = math.prod(shape)
        whole = torch.full((size + 256,), math.nan, dtype=dtype)
        start = (-whole.data_ptr() // whole.element_size()) % 64 + 64  # so that streams are allowed
        borders.extend((whole[:start], whole[start + size :]))
        return whole.as_strided(shape, strides, start)

    def steps(x: Tensor, dtype: torch.dtype) -> Tensor:
        return guarded(x, x.shape, (math.prod(x.shape[1:]), *x.stride()[1:]), dtype)

    def step(x: Tensor, dtype: torch.dtype) -> Tensor:
        return guarded(x, x.shape[1:], x.stride()[1:], dtype)

    monkeypatch.setattr(integrate_and_fire, "empty_steps", steps)
    monkeypatch.setattr(integrate_and_fire, "empty_step", step)
    monkeypatch.setattr(integrate_and_fire, "_streams", lambda *_: streaming)
    for size in (1, 48, 512, 535):
        c = case(kind, shape=(3, 1, size), dtype=dtype)
        with using(variant):
            out = by_kernel(c)
            found = gradients(out, c)
        assert all(torch.isfinite(x).all() for x in (*out, *found))
        assert_same(out, by_reference(c))
    assert len(borders) >= 4 * 2 * 5 and all(border.isnan().all() for border in borders)


@every_variant
def test_streaming_changes_nothing(variant, monkeypatch):
    found = []
    for streaming in (False, True):
        monkeypatch.setattr(integrate_and_fire, "_streams", lambda *_, answer=streaming: answer)
        c = case("cuba-soft", shape=(5, 4, 1024), learned=True)
        with using(variant):
            out = by_kernel(c)
            found.append([*out, *gradients(out, c)])
    assert_same(*found)


@pytest.fixture
def threads():
    """Sets the number of threads; the old number comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@every_variant
@pytest.mark.parametrize("kind", ["lif-soft", "cuba-hard"])
@pytest.mark.parametrize("shape", [(20, 3, 1700), (3, 5, 8192), (1, 1, 70001)])
def test_the_number_of_threads_changes_nothing(variant, kind, shape, threads):
    found = []
    for number in (1, 2, 2, 3, 1):
        threads(number)
        c = case(kind, shape=shape, learned=True)
        with using(variant):
            out = by_kernel(c)
            found.append([*out, *gradients(out, c)])
    for other in found[1:]:
        assert_same(other, found[0])


@every_kind
@every_surrogate
def test_all_variants_agree(kind, surrogate):
    """Bit by bit in everything but the sums for learned parameters, which are as long as the vectors."""
    found = []
    for variant in VARIANTS:
        c = case(kind, surrogate, (6, 3, 71), learned=True)
        with using(variant):
            out = by_kernel(c)
            found.append([*out, *gradients(out, c)])
    own = 3 if KINDS[kind].synaptic else 2
    for other in found[1:]:
        assert_same(other[:-own], found[0][:-own])
        assert_near(other[-own:], found[0][-own:], FLOAT32)


@every_kind
@pytest.mark.parametrize("cuts", [(1, 8), (3, 3, 3), (1,) * 9])
def test_pieces_equal_the_whole(kind, cuts):
    c = case(kind, shape=(9, 2, 19))
    whole = by_kernel(c)
    out, v, i, events, sent = None, c.v, c.i, [], torch.zeros(2, 19)
    for piece in c.currents.split(list(cuts)):
        out = by_kernel(c._replace(currents=piece, v=v, i=i))
        v, i, sent = out.v, None if i is None else out.i, sent + out.sent
        events.append(out.events)
    assert out is not None
    pieces = out._replace(events=torch.cat(events), sent=sent)
    assert_same(pieces, whole)
    assert_same(gradients(pieces, c), gradients(whole, c))


@every_kind
@every_variant
def test_counting_is_a_sum_over_time(kind, variant):
    c = case(kind, shape=(9, 2, 19), learned=True)
    g = torch.randn(2, 19)
    with using(variant):
        out, uncounted = by_kernel(c), by_kernel(c, count=False)
        assert_same([out.sent], [out.events.sum(0)])
        assert uncounted.sent.numel() == 0
        counted = torch.autograd.grad(out.sent, c.leaves(), g)
        assert_same(counted, torch.autograd.grad(uncounted.events.sum(0), c.leaves(), g))


def kept_bytes(c: Case) -> int:
    """Memory that the backward pass holds on to."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        out = by_kernel(c)
    assert out.events.requires_grad
    return sum(x.numel() * x.element_size() for x in kept)


@pytest.mark.parametrize("steps", [1, 4, 64])
def test_training_keeps_one_number_for_each_neuron_and_step(steps):
    shape, size = (steps, 3, 50), steps * 150
    assert kept_bytes(case("lif-hard", shape=shape)) == kept_bytes(case("cuba-soft", shape=shape)) == 4 * size
    assert kept_bytes(case("lif-hard", shape=shape, dtype=torch.bfloat16)) == 2 * size
    with membranes_saved_in(torch.bfloat16):
        assert kept_bytes(case("lif-hard", shape=shape)) == 2 * size
    assert kept_bytes(case("lif-hard", shape=shape, learned=True)) == 4 * (size + 150 + 2)
    assert kept_bytes(case("cuba-soft", shape=shape, learned=True)) == 4 * (size + 2 * 150 + 3)


def test_a_graph_does_not_keep_its_results_alive():
    """Events may be changed in place or thrown away: backward does not need them."""
    c = case("lif-soft")
    expected = gradients(by_kernel(c), c)
    out = by_kernel(c)
    changed = out._replace(events=out.events * 1)
    with torch.no_grad():
        out.events.zero_()
        out.v.zero_()
    assert_same(gradients(changed, c), expected)


@pytest.mark.parametrize(
    "pack", [lambda u: torch.stack([u, u + 1], 1)[:, 0], lambda u: torch.stack([u, u + 1], -1)[..., 0]]
)
@pytest.mark.parametrize("learned", [False, True])
def test_saved_tensors_may_come_back_in_another_layout(pack, learned):
    """As from hooks that keep them elsewhere meanwhile."""
    c = case("cuba-hard", learned=learned)
    expected = gradients(by_kernel(c), c)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: pack(x) if x.dim() == 3 else x, lambda x: x):
        out = by_kernel(c)
    assert_same(gradients(out, c), expected)
