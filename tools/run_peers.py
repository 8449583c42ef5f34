"""Run other counters on one convolution with four inputs and write what they reported to results/peers.jsonl.

One line per tool, version and input: operations per sample, the call that made them, and where it was run. Run it in
the environment of tools/install_peers.sh (`make peers`).
"""

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from picojoule import Events, Values, __version__, measure
from picojoule.experiment.record import provenance, write_records

ROOT = Path(__file__).parent.parent


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    tools: Any = import_module("peers.tools")
    torch.set_num_threads(1)
    _, rows = tools.vector()
    where = {**provenance(torch.device("cpu")), "numpy": version("numpy"), "python": sys.version.split()[0]}
    records = []
    for name, tool in tools.TOOLS.items():
        for row in rows:
            found = tools.peer_numbers(name, tools.vector()[0], row.x)
            about = {"tool": name, "package": tool.package, "package_version": version(tool.package), "call": tool.call}
            records.append({**where, **about, "note": tool.note, "row": row.name, "per_sample": found})
            print(f"{name:14s} {row.name:12s} {json.dumps(found)}")
    own = [{**where, **record} for record in _own(tools.vector()[0], rows)]
    records = sorted(own + records, key=lambda record: record["tool"] != "picojoule")
    write_records(ROOT / "results" / "peers.jsonl", records)


def _own(layer: torch.nn.Module, rows: Any) -> list[dict[str, Any]]:
    """What picojoule counts, and by its rules the tools that cannot be run here."""
    records = []
    for row in rows:
        kind = Values() if row.unit is None else Events(row.unit, signed=bool((row.x < 0).any()))
        report = measure(layer, [row.x], inputs=kind, conventions=("norse", "keras-spiking", "literature-sop"))
        numbers = {q: float(report.counts.total(q)) for q in ("acs", "macs")}
        about = {"package": "picojoule", "row": row.name, "note": ""}
        version_of_ours = {
            "tool": "picojoule",
            "package_version": __version__,
            "call": "measure(model, [x], inputs=...)",
        }
        records.append({**about, **version_of_ours, "per_sample": numbers})
        for name, found in report.conventions.items():
            numbers = {"synops": found.operations}
            if name == "literature-sop":
                numbers = {"acs": found.totals.get("acs", 0.0), "macs": found.totals.get("macs", 0.0)}
            of = {"tool": name, "package_version": "(its formula)", "call": f"measure(..., conventions=['{name}'])"}
            records.append({**about, **of, "per_sample": numbers})
    return records


if __name__ == "__main__":
    main()
