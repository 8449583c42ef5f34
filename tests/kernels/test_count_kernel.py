"""Counting in one pass, against torch's own sums."""

import pytest
import torch

from picojoule.graph.counting import fired_and_multiple, sums_of
from picojoule.graph.shapes import BatchAxis
from picojoule.kernels.native import count
from picojoule.kernels.native.library import available, using
from picojoule.kinds import Events, Values

VARIANTS = [name for name in available() if name != "reference"]
pytestmark = pytest.mark.skipif(not VARIANTS, reason="the compiled kernels are not built")
KINDS = {
    "spikes": Events(most=1),
    "several": Events(most=7),
    "quarters": Events(0.25, most=4),
    "thirds": Events(1 / 3, most=9),
    "signed": Events(0.5, signed=True, most=3),
    "values": Values(),
}
SHAPES = {"dense": (3, 2, 37), "maps": (2, 3, 5, 7, 4), "one": (1, 1, 1), "long": (2, 2, 5000)}


def _operand(kind, shape, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if isinstance(kind, Values):
        return torch.randn(shape, generator=generator).relu().to(dtype)
    low = -kind.most if kind.signed else 0
    return (torch.randint(low, kind.most + 1, shape, generator=generator) * kind.quantum).to(dtype)


def _fan_out(shape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    tail = [1 if n == 2 and len(shape) > 3 else size for n, size in enumerate(shape[2:], 2)]  # constant over channels
    return torch.randint(0, 600, (1, 1, *tail), generator=generator).double()


def _both(x, kind, fan_out):
    """By the kernels and by the reference path."""
    found = []
    for path in (VARIANTS[-1], "reference"):
        leaf = x.detach().requires_grad_(isinstance(kind, Events))
        with using(path):
            sums = sums_of(leaf, kind, fan_out, float(fan_out.max()), BatchAxis(1, 1))
            if leaf.requires_grad:
                (
                    sums.weighted * torch.arange(1.0, sums.weighted.numel() + 1).reshape(sums.weighted.shape)
                ).sum().backward()
        found.append((sums, leaf.grad))
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_counts_as_the_reference_path(kind, shape):
    x, fan_out = _operand(KINDS[kind], SHAPES[shape]), _fan_out(SHAPES[shape])
    (ours, g), (theirs, g_theirs) = _both(x, KINDS[kind], fan_out)
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(a, b) and a.dtype == torch.float64
    assert ours.broken is not None and not ours.broken.any()
    if g is not None:
        torch.testing.assert_close(g, g_theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_dtype_and_layout(variant, dtype):
    fan_out = _fan_out(SHAPES["maps"])
    for kind in (KINDS["spikes"], KINDS["quarters"]):
        x = _operand(kind, SHAPES["maps"], dtype)
        expected = sums_of(x.double(), kind, fan_out, 600.0, BatchAxis(1, 1))
        last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        apart = torch.stack([x, x], 1)[:, 0]
        repeated = x[:1].expand(3, *x.shape[1:])
        with using(variant):
            for y in (x, last, apart):
                found = count.entered(y, fan_out[0, 0], kind.quantum, kind.signed)
                assert torch.equal(found.weighted, expected.weighted) and torch.equal(found.entered, expected.entered)
            found = count.entered(repeated, fan_out[0, 0], kind.quantum, kind.signed)
            assert torch.equal(found.weighted, expected.weighted[:1].expand(3, -1))


@pytest.mark.parametrize(
    "kind,value,broken",
    [("spikes", 0.5, 1), ("spikes", -1.0, 1), ("spikes", float("nan"), 1), ("spikes", float("inf"), 1)]
    + [("quarters", 0.3, 1), ("quarters", 0.2501, 0), ("signed", -1.0, 0), ("signed", -0.6, 1), ("values", -0.6, 0)],
)
def test_what_is_no_event_is_noticed(kind, value, broken):
    x = _operand(KINDS[kind], SHAPES["dense"])
    x[1, 1, 20] = value
    quantum = getattr(KINDS[kind], "quantum", None)
    found = count.entered(x, torch.ones(37), quantum, getattr(KINDS[kind], "signed", False))
    expected = torch.zeros(3, 2, dtype=torch.float64)
    expected[1, 1] = broken
    assert torch.equal(found.broken, expected)


def test_what_could_be_rounded_is_left_to_the_reference_path():
    x = torch.ones(1, 1, 8)
    assert count.serves(x, count.LARGEST - 1) and not count.serves(x, count.LARGEST)
    huge = torch.full((1, 1, 200_000), float(count.LARGEST - 1))
    found = count.entered(torch.ones_like(huge), huge[0, 0], 1.0, False)
    assert float(found.weighted) == 200_000 * (count.LARGEST - 1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (4, 3, 8, 5), (3, 9000)])
def test_a_population_adds_up(variant, shape):
    sent = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(2)).float()
    layouts = [sent, sent.transpose(1, -1).contiguous().transpose(1, -1)] if len(shape) > 2 else [sent]
    fired, multiple = fired_and_multiple(sent)
    for x in layouts:
        with using(variant):
            found = count.population(x)
        for a, b in zip(found, (sent.double().sum(0), fired, multiple), strict=True):
            assert torch.equal(a, b)
    assert not count.adds_up(sent, 2.0**24)


def test_operators_keep_the_rules_of_torch():
    x = _operand(KINDS["quarters"], SHAPES["maps"]).double().requires_grad_()
    torch.library.opcheck(torch.ops.picojoule.count_events.default, (x, _fan_out(SHAPES["maps"])[0, 0], 0.25, False))
    torch.library.opcheck(torch.ops.picojoule.population.default, (torch.ones(3, 4),))
