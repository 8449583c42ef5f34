"""Records as curves: the variants of a method, each with its strengths and seeds, and what they are compared with."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from picojoule.errors import BadInput
from picojoule.report.load import Record
from picojoule.report.marks import in_order

PLAIN = "plain"
_LEARNING = ("epochs", "lr", "optimiser", "lr_schedule", "weight_decay", "dropout", "batch_size", "augment")
_ALIKE = (*_LEARNING, "limit_train", "start")  # what a penalised run shares with the plain one it is held against
TRAINING = (*_ALIKE, "precision", "compile", "save_membranes")
NETWORK = ("T", "encoder", "readout", "pool", "neuron", "decay", "surrogate")
TARGETS = ("target", "upper")  # options that are swept instead of the strength; the smaller, the stronger
NOTHING = (None, False, "none", "adam", "cosine")
"""How a setting says that it is not used, or what older records, which do not name it, ran with."""


class Variant(NamedTuple):
    """The runs of a method with the same options and settings; only the seed differs, and what is swept.

    That is the option `swept`: the strength, or a target if several were tried with one strength. `label` is the method
    with what tells it from other rows, as in `synaptic-penalty p=2`; `changed` counts the options that differ from the
    method's defaults. A run repeated with its strength and seed counts once, as it came out last.
    """

    label: str
    method: str
    dataset: str
    network: str
    swept: str
    changed: int
    runs: tuple[Record, ...]

    @property
    def seeds(self) -> list[int | None]:
        return list(dict.fromkeys(run.get("seed") for run in self.runs))

    @property
    def is_swept(self) -> bool:
        return any(level(run, self.swept) is not None for run in self.runs)

    def by_strength(self) -> dict[float | None, list[Record]]:
        """The runs of each strength (or target), from weak to strong."""
        groups: dict[float | None, list[Record]] = {}
        ordered = sorted(self.runs, key=lambda run: level(run, self.swept) or 0.0, reverse=self.swept != "strength")
        for run in ordered:
            groups.setdefault(level(run, self.swept), []).append(run)
        return groups


def level(run: Record, swept: str) -> float | None:
    """The strength of a run, or the target that is swept instead."""
    return run.get("strength") if swept == "strength" else run["options"][swept]


def variants(records: Sequence[Record]) -> list[Variant]:
    """The variants of the spiking methods, by dataset and network, in the order of the methods."""
    runs = [run for run in records if run["method"] != "ann" and not run["method"].startswith("ann-")]
    if not runs:
        raise BadInput("expected records of spiking networks, got none; name a file that holds runs of them")
    traits = [_traits(run, runs) for run in runs]
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for n, own in enumerate(traits):
        groups.setdefault(tuple(sorted(own.items())), []).append(n)
    made = [
        _variant([runs[n] for n in members], _shown(runs[members[0]], runs, traits), _swept(runs[members[0]], runs))
        for members in groups.values()
    ]
    methods = in_order(variant.method for variant in made)
    return sorted(made, key=lambda v: (v.dataset, v.network, methods.index(v.method), v.changed, v.label))


def shared_options(records: Sequence[Record]) -> dict[str, str]:
    """The options that differ from their defaults in the same way wherever they exist, so that no label has them."""
    shared = {key for run in records for key in changed_options(run) if len(_values(key, records)) == 1}
    return {key: next(iter(_values(key, records))) for key in sorted(shared)}


def plain_of(run: Record, records: Iterable[Record]) -> Record | None:
    """The unpenalised run of the same seed, dataset, network, surrogate and training; of several the most alike."""
    same = ("dataset", "network", "seed")
    plains = [
        plain
        for plain in records
        if plain["method"] == PLAIN
        and all(plain.get(key) == run.get(key) for key in same)
        and _agree(setting(plain, "surrogate"), setting(run, "surrogate"))
        and all(setting(plain, key) == setting(run, key) for key in _ALIKE)
    ]
    keys = (*NETWORK, *TRAINING)
    return max(reversed(plains), key=lambda p: sum(setting(p, k) == setting(run, k) for k in keys), default=None)


def is_strength_zero(plain: Record, run: Record) -> bool:
    """Whether the method of `run` without its penalty is `plain`: trained with the same neurons, code and steps."""
    trained = setting(run, "surrogate") is not None  # a conversion has no surrogate
    return trained and all(_agree(setting(plain, key), setting(run, key)) for key in NETWORK)


def setting(run: Record, key: str) -> Any:
    """An option, setting of the network or setting of the training; of penalties added up, the option of the last."""
    options = run.get("options") or {}
    known = {"T": run.get("timesteps"), **(run.get("config") or {}), **options}
    known |= {name: run[name] for name in ("encoder", "readout", "pool") if run.get(name) is not None}
    last = run["method"].rpartition("+")[2]
    value = known.get(f"{last}:{key}", known.get(key))
    return None if value in NOTHING else value


def changed_options(run: Record) -> set[str]:
    """The options that differ from their defaults, which the name of a run lists; all of them if it has no name."""
    options = _options(run)
    if not isinstance(run.get("run"), str):
        return set(options)
    names = run["run"].split("+")
    parts = {method: f"{name}_" for method, name in zip(run["method"].split("+"), names, strict=False)}
    changed = set()
    for key in sorted(options, key=len, reverse=True):  # "_decay-0.5" is also the end of "_synaptic_decay-0.5"
        owner, _, name = key.rpartition(":")
        owner = owner or run["method"]
        text = f"_{name}-{options[key]}_"
        if text in parts.get(owner, ""):
            changed.add(key)
            parts[owner] = parts[owner].replace(text, "_", 1)
    return changed


def _options(run: Record) -> dict[str, str]:
    """The options but for the strength, where the record has one for all."""
    options = run.get("options") or {}
    swept = run.get("strength") is not None
    return {key: str(value) for key, value in options.items() if not (swept and key == "strength")}


def _traits(run: Record, runs: Sequence[Record]) -> dict[str, str]:
    """What is equal for the runs of a variant; an option that older records lack counts if it is not the default."""
    same = [other for other in runs if other["method"] == run["method"]]
    common = set.intersection(*(set(_options(other)) for other in same))
    counted = (common | changed_options(run)) - {_swept(run, runs)}
    options = {key: value for key, value in _options(run).items() if key in counted}
    settings = {key: setting(run, key) for key in ("T", "encoder", "readout", "pool", *TRAINING)}
    known = {key: _text(value) for key, value in settings.items() if value is not None}
    return {**{key: run[key] for key in ("method", "dataset", "network")}, **known, **options}


def _swept(run: Record, runs: Sequence[Record]) -> str:
    """The strength, unless there is but one strength and several values of a target."""
    same = [other for other in runs if all(other[key] == run[key] for key in ("method", "dataset", "network"))]
    if len({other.get("strength") for other in same}) == 1:
        for key in _options(run):
            if _bare(key) in TARGETS and len({_options(other).get(key) for other in same}) > 1:
                return key
    return "strength"


def _shown(run: Record, runs: Sequence[Record], traits: Sequence[dict[str, str]]) -> dict[str, str]:
    """The traits that a label needs."""
    same = [t for t in traits if all(t[key] == run[key] for key in ("method", "dataset", "network"))]
    own, changed, options = _traits(run, runs), changed_options(run), _options(run)
    shown = {}
    for key, value in own.items():
        if key in ("method", "dataset", "network"):
            continue
        differs = len({t.get(key) for t in same}) > 1
        if key not in options:
            needed = differs
        elif key in changed:
            needed = differs or len(_values(key, runs)) > 1
        else:  # a default: said only where the default itself has changed between records
            others = [r for r in runs if r["method"] == run["method"] and key not in changed_options(r)]
            needed = len({_options(r).get(key, value) for r in others}) > 1
        if needed:
            shown[key] = value
    return shown


def _variant(runs: list[Record], shown: dict[str, str], swept: str) -> Variant:
    first = runs[0]
    last = {(level(run, swept), _seed(run, n)): run for n, run in enumerate(runs)}
    label = " ".join([first["method"], *(f"{key}={value}" for key, value in shown.items())])
    changed = len(changed_options(first) - {swept})
    return Variant(label, first["method"], first["dataset"], first["network"], swept, changed, tuple(last.values()))


def _seed(run: Record, place: int) -> object:
    return f"unknown {place}" if run.get("seed") is None else run["seed"]


def _values(key: str, records: Sequence[Record]) -> set[str]:
    """All values of an option in any method that has it."""
    found = [(name, value) for run in records for name, value in _options(run).items()]
    return {value for name, value in found if _bare(name) == _bare(key)}


def _bare(key: str) -> str:
    return key.rpartition(":")[2]


def _agree(a: object, b: object) -> bool:
    return a is None or b is None or a == b


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
