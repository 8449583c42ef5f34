"""The conventions against the counters that they are named after, by running those."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.energy.conventions import ConventionReport, Conventions
from picojoule.energy.count import count
from picojoule.graph.records import Activity, Site, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Values
from picojoule.metering.call import SiteCall, Window

from .brute_force import Truth, count_operations
from .installed import case, named, needs
from .tools import TOOLS, Row, peer_numbers, vector
from .zoo import Entry, T

pytestmark = pytest.mark.filterwarnings("ignore")
RECORDED = Path(__file__).parents[2] / "results" / "peers.jsonl"
ROWS = {row.name: row for row in vector()[1]}
TERMS = {
    "syops": ("syops", {"acs": "acs", "macs": "macs", "dense": "total"}),
    "neurobench": ("neurobench", {"acs": "Effective_ACs", "macs": "Effective_MACs", "dense": "Dense"}),
    "spikingjelly": ("spikingjelly-2026-08", {"acs": "ac", "macs": "mac"}),
    "sinabs": ("sinabs", {"synops": "synops"}),
    "sinabs-layers": ("sinabs", {"synops": "synops"}),
    "sinabs-hooks": ("sinabs", {"synops": "synops"}),
}
"""Of each tool: the convention that follows it, and that convention's terms for what the tool reports."""
FOLDED = BatchAxis(0, T, T)
NETWORKS = [
    *(
        (tool, name)
        for tool in ("syops", "neurobench", "spikingjelly")
        for name in ("snntorch-soft-reset", "snntorch-average-pool")
    ),
    *(
        (tool, name)
        for tool in ("neurobench", "spikingjelly")
        for name in ("snntorch-analog-input", "spikingjelly-single-lif")
    ),
    *(("sinabs-layers", f"sinabs-{name}") for name in ("iaf-squeeze", "lif-squeeze-sum-pool", "single-spike")),
]


def follow(
    names: list[str],
    model: nn.Module,
    x: Tensor,
    truth: Truth,
    samples: int,
    batch: BatchAxis,
    rest: Callable[[], object],
) -> dict[str, ConventionReport]:
    """The conventions, told of every call by hooks of this test instead of the meter."""
    exact = count_operations(model, x, truth, samples)
    rest()
    inputs: dict[str, float] = {}
    conventions = Conventions(names, model)

    def tell(name: str, module: Any, args: Any, out: Tensor) -> None:
        window = None
        if isinstance(module, nn.Conv2d):
            padding: Any = module.padding
            window = Window(module.stride, padding, module.dilation, module.groups, False)
        synapses = fan_out(module, args[0])
        kind, biased = type(module).__name__, module.bias is not None
        call = SiteCall(name, kind, args[0], module.weight, biased, synapses, batch, out.shape, window, module)
        conventions.site(call)
        inputs[name] = inputs.get(name, 0.0) + args[0].numel() / samples

    handles = [
        module.register_forward_hook(partial(tell, name or "model"))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad(), conventions:
        model(x)
    for handle in handles:
        handle.remove()
    conventions.end_batch(samples)
    records = []
    for name, ops in exact.sites.items():
        site = Site(name, "", Events(truth.events[name]) if name in truth.events else Values(), True)
        sums = ops.acs, ops.graded_events, ops.macs, ops.acs + ops.macs, (ops.acs + ops.macs).sum().unsqueeze(0)
        records.append(SynapseRecord(site, *sums, float(ops.synapses[0]), inputs[name], 0.0, None))
    return conventions.results(count(Activity(tuple(records), (), samples)))


def fan_out(module: Any, x: Tensor) -> Tensor:
    """Through how many synapses each element of one sample acts, `[1, ...]`."""
    with torch.enable_grad():
        sample = torch.ones_like(x[:1], dtype=torch.float64, requires_grad=True)
        ones = torch.ones_like(module.weight, dtype=torch.float64)
        if isinstance(module, nn.Conv2d):
            y = F.conv2d(sample, ones, None, module.stride, module.padding, module.dilation, module.groups)
        else:
            y = F.linear(sample, ones)
        return torch.autograd.grad(y.sum(), sample)[0]


def on_vector(row: Row, tools: list[str]) -> dict[str, ConventionReport]:
    """What the conventions say of the layer of the vector."""
    truth = Truth({} if row.unit is None else {"0": row.unit})
    names = list(dict.fromkeys(TERMS[tool][0] for tool in tools))
    return follow(names, nn.Sequential(vector()[0]), row.x, truth, 2, BatchAxis(0, 1), lambda: None)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_exact_count_of_the_vector(row: Row):
    layer = nn.Sequential(vector()[0])
    found = count_operations(layer, row.x, Truth({} if row.unit is None else {"0": row.unit}), 2)
    assert float((found.total("acs") + found.total("macs")).mean()) == row.operations
    assert found.total("synapses").tolist() == [5808, 5808]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("tool", [pytest.param(t, marks=needs(TOOLS[t].package)) for t in TOOLS])
def test_a_convention_says_of_the_vector_what_its_tool_says(tool: str, row: Row):
    assert_same(on_vector(row, [tool]), tool, peer_numbers(tool, vector()[0], row.x), layers={"0"})


@pytest.mark.parametrize(
    "record",
    [r for r in map(json.loads, RECORDED.read_text().splitlines()) if r["tool"] in TOOLS],
    ids=lambda r: f"{r['tool']}-{r['row']}",
)
def test_a_convention_says_what_its_tool_said_when_it_was_recorded(record: dict[str, Any]):
    tool = record["tool"]
    assert_same(on_vector(ROWS[record["row"]], [tool]), tool, record["per_sample"], layers={"0"})


@pytest.mark.parametrize(
    ("tool", "entry"),
    [
        pytest.param(
            t, *case(named(n), TOOLS[t].package).values, id=f"{t}-{n}", marks=case(named(n), TOOLS[t].package).marks
        )
        for t, n in NETWORKS
    ],
)
def test_a_convention_says_of_a_network_what_its_tool_says(tool: str, entry: Entry):
    x = next(iter(entry.batches()))
    samples = x.shape[entry.batch_dim]
    model, used = entry.model(), entry.model()
    rest = lambda: entry.reset and entry.reset(model)  # noqa: E731
    batch = BatchAxis(0, 1) if entry.steps_first else FOLDED
    rest()
    found = follow([TERMS[tool][0]], model, x, entry.truth, samples, batch, rest)
    # SpikingJelly's counters of synaptic operations leave out pools; the convention lists them under their own name
    layers = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert_same(found, tool, peer_numbers(tool, used, x, entry.batch_dim), layers if tool == "spikingjelly" else None)


def assert_same(
    reports: dict[str, ConventionReport], tool: str, reported: dict[str, float], layers: set[str] | None
) -> None:
    """Every number of the tool is the convention's, over these layers or (None) all. The tools compute in float32."""
    convention, terms = TERMS[tool]
    rows = [row for name, row in reports[convention].layers.items() if layers is None or name in layers]
    assert reported.keys() == terms.keys()
    for quantity, term in terms.items():
        assert sum(row.get(term, 0.0) for row in rows) == pytest.approx(reported[quantity], rel=1e-5), quantity
