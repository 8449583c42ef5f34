"""The result in words: the best energy saving, and what it costs in accuracy."""

from collections.abc import Sequence

from picojoule.report.summary import Row, dense_ann, scope
from picojoule.report.units import format_energy, format_percent

ALLOWED_LOSS = 0.01  # a saving that costs more than one point of accuracy is not called the best
OTHER_ANNS = {"ann-sparse": "an ANN on hardware that skips zeros", "ann-int8": "an int8 ANN"}


def headlines(rows: Sequence[Row]) -> list[str]:
    """One paragraph for each dataset and network."""
    places = dict.fromkeys((row.dataset, row.network) for row in rows)
    return [_headline([row for row in rows if (row.dataset, row.network) == place]) for place in places]


def _headline(rows: list[Row]) -> str:
    place = f"On {rows[0].dataset} with {rows[0].network}"
    base = dense_ann(rows[0], rows)
    spiking = [row for row in rows if row.is_spiking]
    if base is None:
        return f"{place} there is no run of the dense ANN (method ann), so no saving can be stated."
    if not spiking:
        return f"{place} there is no spiking run to compare with the dense ANN."
    close = [row for row in spiking if base.accuracy - row.accuracy <= ALLOWED_LOSS]
    best = min(close, key=_energy) if close else max(spiking, key=lambda row: row.accuracy)
    method, _, settings = best.name.partition(", ")
    sentences = [
        f"{place}, {method}{f' ({settings})' if settings else ''} uses "
        f"{_versus(best.energy_pj, base.energy_pj, 'the dense ANN')} "
        f"({scope([best, base])}: {format_energy(best.energy_pj)} against {format_energy(base.energy_pj)} "
        f"per sample) and is {_points(best, base)} ({format_percent(best.accuracy)}% against "
        f"{format_percent(base.accuracy)}%, {_seeds(best)})."
    ]
    if not close:
        sentences.append("No spiking run stays within one point of the ANN; this one is the most accurate.")
    return " ".join([*sentences, *_further(best, base, rows)])


def _further(best: Row, base: Row, rows: list[Row]) -> list[str]:
    """The same saving against harder opponents, and with memory."""
    parts = []
    for method, name in OTHER_ANNS.items():
        other = min((row for row in rows if row.method == method), key=_energy, default=None)
        if other is not None:
            versus = _versus(best.energy_pj, other.energy_pj, name)
            parts.append(f"{versus} ({format_energy(other.energy_pj)})")
    sentences = [f"In the same terms it uses {' and '.join(parts)}."] if parts else []
    if best.memory_pj is not None and base.memory_pj is not None:
        versus = _versus(best.memory_pj, base.memory_pj, "the dense ANN")
        sentences.append(f"With memory accesses priced too, it uses {versus}.")
    return sentences


def _energy(row: Row) -> float:
    return row.energy_pj


def _versus(energy_pj: float, other_pj: float, other: str) -> str:
    if not energy_pj or not other_pj:
        return f"{format_energy(energy_pj)} against {format_energy(other_pj)} of {other}"
    factor = other_pj / energy_pj
    if 0.95 < factor < 1.05:
        return f"about the same energy as {other}"
    if factor > 1:
        return f"{factor:.1f} times less energy than {other}"
    return f"{1 / factor:.1f} times more energy than {other}"


def _points(best: Row, base: Row) -> str:
    points = round(100 * (best.accuracy - base.accuracy), 1)
    if points == 0:
        return "equally accurate"
    return f"{abs(points):.1f} points {'more' if points > 0 else 'less'} accurate"


def _seeds(row: Row) -> str:
    return "one seed" if row.seeds == 1 else f"mean of {row.seeds} seeds"
