"""Penalties at equal accuracy: what each spends where it has lost a given number of points against `plain`."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from picojoule.errors import BadInput
from picojoule.report.activity import has_silent_layer, spikes, spread, synops
from picojoule.report.columns import Column
from picojoule.report.load import Record
from picojoule.report.summary import mean
from picojoule.report.units import format_percent
from picojoule.report.variants import PLAIN, Variant, is_strength_zero, plain_of, variants

REASONS = {
    "not reached": "the strongest strength is still within the point",
    "starts below": "no strength is within the point",
    "collapses": "the first strength beyond the point silences a whole layer, so nothing lies between",
}
SAME = 1e-9  # 0.93 - 0.01 is not 0.92 in binary


class Place(NamedTuple):
    """The test results of one seed at the accuracy asked for, or the reason why there are none (a key of REASONS)."""

    accuracy: float = math.nan
    synops: float = math.nan
    spikes: float | None = None
    reason: str = ""


class Found(NamedTuple):
    """What a variant came to for one seed, beside the plain run of that seed."""

    place: Place
    plain: Record


def matched_columns(records: Sequence[Record], points: float) -> tuple[list[Column], list[str]]:
    """The columns and the notes of the table at `points` (percentage points) under plain's validation accuracy.

    Raises BadInput without records of plain, of swept strengths, or of validation accuracy.
    """
    swept = [variant for variant in variants(records) if variant.is_swept]
    plain = [variant for variant in variants(records) if variant.method == PLAIN]
    if not plain:
        raise BadInput("expected records of plain to match the accuracy of, got none; add its runs to the same file")
    if not swept:
        raise BadInput("expected records of a penalty with its strengths, got none; add their runs to the same file")
    if any(run.get("validation_accuracy") is None for variant in (*swept, *plain) for run in variant.runs):
        raise BadInput("expected validation_accuracy in every record, got some without; run them again to have it")
    found = [_places(variant, records, points) for variant in swept]
    signs = [_signs(variant, own, swept, found) for variant, own in zip(swept, found, strict=True)]
    base = [{run.get("seed"): Found(_measured(run), run) for run in variant.runs} for variant in plain]
    rows, seen = [*plain, *swept], [*base, *found]
    columns = [
        *[Column(key, "", cells, True) for key in ("dataset", "network") if len(set(cells := _of(rows, key))) > 1],
        Column("method", "", [variant.label for variant in rows], True),
        Column("seeds", "", [_seeds(variant, own) for variant, own in zip(rows, seen, strict=True)]),
        Column("SynOps", "per sample", [_synops(own) for own in seen]),
        Column("of plain [%]", "", [_share(own, "synops") for own in seen]),
        Column("test points lost", "", [_lost(own) for own in seen]),
        Column("spikes", "per sample", [spread(f.place.spikes for f in _there(own)) for own in seen]),
        Column("of plain's spikes [%]", "", [_share(own, "spikes") for own in seen]),
        Column("SynOps", "against synaptic-penalty", [""] * len(plain) + [a for a, _ in signs]),
        Column("spikes", "against synaptic-penalty", [""] * len(plain) + [b for _, b in signs]),
    ]
    return [column for column in columns if any(column.cells)], _notes(points, found)


def place_at(runs: Sequence[Record], accuracy: float) -> Place:
    """Where runs of one seed, from weak to strong, fall through a validation accuracy for the last time.

    That is the cheapest network still within it, also if accuracy rises in between. Between the neighbours around it
    accuracy is linear in the logarithm of SynOps; test accuracy (linear), SynOps and spikes (logarithmic) are those at
    the same share of the way. Nothing is extrapolated.
    """
    within = [run["validation_accuracy"] >= accuracy - SAME for run in runs]
    if not any(within):
        return Place(reason="starts below")
    if within[-1]:
        return Place(reason="not reached")
    last = len(within) - 1 - within[::-1].index(True)
    here, beyond = runs[last], runs[last + 1]
    if has_silent_layer(beyond) or min(synops(here), synops(beyond)) <= 0:
        return Place(reason="collapses")
    drop = here["validation_accuracy"] - beyond["validation_accuracy"]
    share = max(0.0, (here["validation_accuracy"] - accuracy) / drop)
    before, after = spikes(here), spikes(beyond)
    return Place(
        (1 - share) * here["accuracy"] + share * beyond["accuracy"],
        _between(synops(here), synops(beyond), share),
        _between(before, after, share) if before and after else None,
    )


def _between(a: float, b: float, share: float) -> float:
    return a ** (1 - share) * b**share


def _places(variant: Variant, records: Sequence[Record], points: float) -> dict[object, Found]:
    """By seed; a seed without plain is missing."""
    found = {}
    for seed in variant.seeds:
        runs = [run for same in variant.by_strength().values() for run in same if run.get("seed") == seed]
        plain = plain_of(runs[0], records)
        if plain is None:
            continue
        if variant.swept == "strength" and runs[0].get("strength") and is_strength_zero(plain, runs[0]):
            runs = [plain, *runs]
        found[seed] = Found(place_at(runs, plain["validation_accuracy"] - points / 100), plain)
    return found


def _measured(run: Record) -> Place:
    return Place(run["accuracy"], synops(run), spikes(run))


def _signs(
    variant: Variant, own: dict[object, Found], others: Sequence[Variant], found: Sequence[dict[object, Found]]
) -> tuple[str, str]:
    """How often this variant takes more SynOps and more spikes than the synaptic penalty at p=1, seed by seed."""
    references = [
        (other, places)
        for other, places in zip(others, found, strict=True)
        if other.method == "synaptic-penalty" and (other.runs[0].get("options") or {}).get("p", 1) == 1
        if any(seed in places and places[seed].plain is own[seed].plain for seed in own)
    ]
    if not references:
        return "", ""
    reference, places = min(references, key=lambda pair: pair[0].changed)
    if reference is variant:
        return "", ""
    pairs = [(own[s].place, places[s].place) for s in own if s in places and places[s].plain is own[s].plain]
    pairs = [(a, b) for a, b in pairs if not a.reason and not b.reason]
    return _sign((a.synops, b.synops) for a, b in pairs), _sign((a.spikes, b.spikes) for a, b in pairs)


def _sign(both: Iterable[tuple[float | None, float | None]]) -> str:
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    counts = {
        "more": sum(a > b for a, b in pairs),
        "fewer": sum(a < b for a, b in pairs),
        "equal": sum(a == b for a, b in pairs),
    }
    word = max(counts, key=lambda name: counts[name])
    ties = f", equal in {counts['equal']}" if counts["equal"] and word != "equal" else ""
    return f"{word} in {counts[word]} of {len(pairs)}{ties}" if pairs else ""


def _there(own: dict[object, Found]) -> list[Found]:
    return [found for found in own.values() if not found.place.reason]


def _seeds(variant: Variant, own: dict[object, Found]) -> str:
    there, every = len(_there(own)), len(variant.seeds)
    return str(every) if there == every else f"{there} of {every}"


def _synops(own: dict[object, Found]) -> str:
    """The mean; and what the other seeds came to."""
    if not own:
        return "no plain"
    there, reasons = _there(own), [found.place.reason for found in own.values() if found.place.reason]
    said = [f"{reason} in {reasons.count(reason)}" if there else reason for reason in dict.fromkeys(reasons)]
    if not there:
        return ", ".join(said)
    return spread(found.place.synops for found in there) + (f" ({', '.join(said)})" if said else "")


def _share(own: dict[object, Found], what: str) -> str:
    """The mean of each seed's share of its own plain run."""
    shares = []
    for found in _there(own):
        value, whole = getattr(found.place, what), getattr(_measured(found.plain), what)
        shares.append(value / whole if value is not None and whole else None)
    share = mean(shares)
    return "" if share is None else format_percent(share)


def _lost(own: dict[object, Found]) -> str:
    return spread((100 * (found.plain["accuracy"] - found.place.accuracy) for found in _there(own)), "{:.2f}")


def _of(rows: Sequence[Variant], key: str) -> list[str]:
    return [getattr(variant, key) for variant in rows]


def _notes(points: float, found: Sequence[dict[object, Found]]) -> list[str]:
    many = "point" if points == 1 else "points"
    reasons = {f.place.reason for own in found for f in own.values()}
    return [
        f"Each penalty is read where its validation accuracy is {points:g} {many} under that of plain with the same "
        "seed: going up the strengths (plain is strength 0 where the network is the same) or down the targets, where "
        "it falls below for the last time, accuracy linear in log SynOps between the two runs around it; test values "
        "are taken at the same place.",
        "Means ± sd over seeds; shares are of the same seed's plain run. SynOps are accumulates, spikes the events of "
        "all neurons.",
        *[f"{reason.capitalize()}: {why}." for reason, why in REASONS.items() if reason in reasons],
    ]
