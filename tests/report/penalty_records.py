"""Made-up records of penalties, small enough to work out by hand."""

from typing import Any

ENERGY = "horowitz-45nm-fp32"
DEFAULTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "synaptic-penalty": {"strength": 1.0, "p": 1, "psi": "exact"},
    "total-spikes": {"strength": 1.0, "p": 1},
}


def record(
    method: str,
    strength: float | None = None,
    *,
    seed: int = 0,
    validation: float = 0.9,
    test: float = 0.88,
    acs: float = 1000.0,
    rates: tuple[float, ...] = (0.5, 0.25),
    silent: tuple[float, ...] = (0.0, 0.0),
    history: list[dict[str, Any]] | None = None,
    options: dict[str, Any] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """A run of layers with 100 and 40 neurons; `options` are those that differ from the defaults."""
    defaults = {"surrogate": "triangle", "neuron": "lif", **DEFAULTS.get(method, {})}
    if strength is not None:
        defaults["strength"] = strength
    chosen = {**defaults, **(options or {})}
    changed = "".join(f"_{key}-{value}" for key, value in (options or {}).items())
    return {
        "method": method,
        "network": "mlp",
        "dataset": "digits",
        "seed": seed,
        "timesteps": 2,
        "strength": strength,
        "options": chosen,
        "run": f"{method}{changed}_strength-{strength}_seed-{seed}",
        "accuracy": test,
        "validation_accuracy": validation,
        "acs": acs,
        "energy_pj": {ENERGY: {"value": 0.9 * acs}},
        "neurons": [
            {"name": name, "count": count, "rate": rate, "silent_fraction": share}
            for name, count, rate, share in zip(("lif1", "lif2"), (100, 40), rates, silent, strict=False)
        ],
        "silent_fraction": sum(silent) / 2,
        "history": history or [{"epoch": 1, "validation_accuracy": validation}],
        "config": {"epochs": len(history) if history else 1},
        **others,
    }


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table, headings first and without the rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [found[0], *found[2:]]


def table(text: str) -> dict[str, dict[str, str]]:
    """Rows by label, cells by heading."""
    heading, *body = rows(text)
    at = heading.index("method")
    return {row[at]: dict(zip(heading, row, strict=True)) for row in body}
