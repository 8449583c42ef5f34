"""Runs that differ in the seed only become one row; rows are compared with the dense ANN and each other."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from picojoule.errors import BadInput
from picojoule.report.load import Record

FIRST_HARDWARE = "horowitz-45nm-fp32"
# What may differ between two seeds of the same experiment; "option" is what was typed, "options" what it meant.
NOT_IDENTITY = {
    "option",
    "page_reuse",
    "seed",
    "seeds",
    "out",
    "device",
    "resume",
    "max_minutes",
    "data_dir",
    "workers",
    "threads",
}
IDENTITY = ("dataset", "network", "timesteps", "strength", "pool", "hardware", "split")
PLACE = ("dataset", "network")
OWN_FIELDS = {*PLACE, "timesteps", "strength", "hardware"}
SHORT_NAMES = {"timesteps": "T"}


@dataclass(frozen=True)
class Row:
    """The mean over the seeds of one experiment. Energies are picojoules per sample, counts per sample.

    `label` is the method and whatever tells this row from others of the same method; `name` is the
    same without dataset and network; `variant` is the part of it that has no field of its own, such
    as `pool=max` or `epochs=5`; `sd` values
    are None for a single seed; `macs` are the dense ones, except where zeros are skipped
    (`ann-sparse`); `memory_pj` is the energy with memory; `ratio` is energy over the dense ANN's;
    `chosen` marks the strength of a sweep that validation chose.
    """

    label: str
    name: str
    variant: str
    method: str
    network: str
    dataset: str
    hardware: str
    timesteps: int | None
    strength: float | None
    seeds: int
    accuracy: float
    accuracy_sd: float | None
    energy_pj: float
    energy_sd_pj: float | None
    energy_low_pj: float
    energy_high_pj: float
    memory_pj: float | None
    acs: float | None
    macs: float | None
    silent_fraction: float | None
    chosen: bool
    ratio: float | None
    memory_ratio: float | None
    runs: tuple[Record, ...]

    @property
    def is_spiking(self) -> bool:
        return self.method != "ann" and not self.method.startswith("ann-")


def summarise(records: Sequence[Record]) -> list[Row]:
    """One row per experiment: by dataset and network, ANNs first, then from high to low energy."""
    if not records:
        raise BadInput("expected at least one record, got none")
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault((record["method"], *sorted(_identity(record).items())), []).append(record)
    differences = _differences([runs[0] for runs in groups.values()])
    rows = [_row(d, _last_per_seed(runs)) for d, runs in zip(differences, groups.values(), strict=True)]
    rows = [_compared(row, rows) for row in rows]
    return sorted(rows, key=lambda row: (row.dataset, row.network, row.is_spiking, -row.energy_pj, row.label))


def pareto_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows for which no other of the same dataset is both at least as accurate and as cheap."""
    rows = list(rows)
    return [row for row in rows if not any(_dominates(other, row) for other in rows)]


def hardware_of(record: Record) -> str:
    """The price list of a record's own row."""
    known = record["energy_pj"]
    named = record.get("hardware")
    if isinstance(named, str) and named in known:
        return named
    return FIRST_HARDWARE if FIRST_HARDWARE in known else next(iter(known))


def scope(rows: Iterable[Row]) -> str:
    """What the energies of the rows include, by the notes of their price lists."""
    notes = [(run.get("hardware_notes") or {}).get(row.hardware) or {} for row in rows for run in row.runs]
    return " / ".join(dict.fromkeys(note.get("scope") or "arithmetic only" for note in notes))


def synaptic_operations(record: Record) -> float:
    """Accumulates and multiply-accumulates of one sample, as they are priced."""
    return (record.get("acs") or 0.0) + (_macs(record) or 0.0)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there, or None."""
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def _row(differences: dict[str, str], runs: list[Record]) -> Row:
    energies = [run["energy_pj"][hardware_of(run)] for run in runs]
    values = [energy["value"] for energy in energies]
    accuracies = [run["accuracy"] for run in runs]
    several = len(runs) > 1
    return Row(
        label=", ".join([runs[0]["method"], *differences.values()]),
        name=", ".join([runs[0]["method"], *(differences[key] for key in differences if key not in PLACE)]),
        variant=", ".join(text for key, text in differences.items() if key not in OWN_FIELDS),
        method=runs[0]["method"],
        network=runs[0]["network"],
        dataset=runs[0]["dataset"],
        hardware=hardware_of(runs[0]),
        timesteps=runs[0].get("timesteps"),
        strength=runs[0].get("strength"),
        seeds=len(runs),
        accuracy=statistics.fmean(accuracies),
        accuracy_sd=statistics.stdev(accuracies) if several else None,
        energy_pj=statistics.fmean(values),
        energy_sd_pj=statistics.stdev(values) if several else None,
        energy_low_pj=statistics.fmean(_bound(energy, "low") for energy in energies),
        energy_high_pj=statistics.fmean(_bound(energy, "high") for energy in energies),
        memory_pj=mean(_memory(run) for run in runs),
        acs=mean(run.get("acs") for run in runs),
        macs=mean(_macs(run) for run in runs),
        silent_fraction=mean(run.get("silent_fraction") for run in runs),
        chosen=all(run.get("chosen") is True for run in runs),
        ratio=None,
        memory_ratio=None,
        runs=tuple(runs),
    )


def _bound(energy: dict[str, float], name: str) -> float:
    bound = energy.get(name)
    return energy["value"] if bound is None else bound


def _macs(record: Record) -> float | None:
    dense = record.get("dense_macs")
    return record.get("macs") if record["method"] == "ann-sparse" or dense is None else dense


def _memory(record: Record) -> float | None:
    # An int8 row must not show a float32 number: only the list that extends the row's own one counts.
    energy = record["energy_pj"].get(f"{hardware_of(record)}-sram")
    return energy["value"] if energy else None


def _compared(row: Row, rows: list[Row]) -> Row:
    base = dense_ann(row, rows)
    if base is None:
        return row
    memory = row.memory_pj / base.memory_pj if row.memory_pj is not None and base.memory_pj else None
    return replace(row, ratio=row.energy_pj / base.energy_pj if base.energy_pj else None, memory_ratio=memory)


def dense_ann(row: Row, rows: Iterable[Row]) -> Row | None:
    """The dense ANN of the row's dataset and network; the cheapest if there are several."""
    same = [r for r in rows if r.method == "ann" and (r.dataset, r.network) == (row.dataset, row.network)]
    return min(same, key=lambda base: base.energy_pj, default=None)


def _dominates(a: Row, b: Row) -> bool:
    if a.dataset != b.dataset or a.accuracy < b.accuracy or a.energy_pj > b.energy_pj:
        return False
    return a.accuracy > b.accuracy or a.energy_pj < b.energy_pj


def _last_per_seed(runs: list[Record]) -> list[Record]:
    """A run that was repeated with its seed counts once, as it came out last."""
    by_seed = {f"unknown {n}" if run.get("seed") is None else run["seed"]: run for n, run in enumerate(runs)}
    return list(by_seed.values())


def _identity(record: Record) -> dict[str, str]:
    """What must be equal for two runs to be seeds of one experiment."""
    known = {**record, "hardware": hardware_of(record)}
    own = {key: _text(known[key]) for key in IDENTITY if known.get(key) is not None}
    return {**_flat(record.get("config")), **_flat(record.get("options")), **own}


def _flat(config: object, prefix: str = "") -> dict[str, str]:
    """Settings as `{"loop.epochs": "10"}`, without the seed, the places of files and what IDENTITY holds."""
    if not isinstance(config, dict):
        return {}
    flat: dict[str, str] = {}
    for key, value in config.items():
        if key in NOT_IDENTITY or key in IDENTITY or (isinstance(value, str) and "/" in value):
            continue
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: _text(value)}
    return flat


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differences(records: list[Record]) -> list[dict[str, str]]:
    """The settings in which each record differs from others of its method, as `{"pool": "pool=avg"}`."""
    identities = [(record["method"], _identity(record)) for record in records]
    found = []
    for method, own in identities:
        same = [other for name, other in identities if name == method]
        keys = [*IDENTITY, *sorted(own.keys() - set(IDENTITY))]
        differing = [key for key in keys if key in own and len({other.get(key) for other in same}) > 1]
        found.append({key: _setting(key, own[key]) for key in differing})
    return found


def _setting(key: str, value: str) -> str:
    return value if key in PLACE else f"{SHORT_NAMES.get(key, key)}={value}"
