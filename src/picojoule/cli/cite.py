"""`picojoule cite`: what to cite."""

from pathlib import Path

from picojoule.cli.output import print_json


def cite(*what: str, json: bool = False) -> None:
    """Print the references of methods, or of everything that records used.

    Args:
        what: Names of methods, or files of records; all methods by default.
        json: Print one JSON object on stdout and nothing else.
    """
    from picojoule.energy.price import hardware, hardware_names
    from picojoule.methods import METHODS, make
    from picojoule.report import read_records

    references: dict[str, list[str]] = {}
    for name in what or tuple(METHODS):
        if name.endswith((".json", ".jsonl")):
            for record in read_records([Path(name)]):
                used = [hardware(h).source for h in record["energy_pj"] if h in hardware_names()]
                references.setdefault(record["method"], [*record.get("cite", []), *dict.fromkeys(used)])
        else:
            method = make(name)
            references[name] = list(dict.fromkeys([*method.cite, hardware(method.hardware).source]))
    if json:
        print_json(references)
        return
    for name, sources in references.items():
        print(name, *(f"  - {source}" for source in sources), sep="\n")
