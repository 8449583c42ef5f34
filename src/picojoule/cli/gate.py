"""`picojoule gate`: has a model become more expensive or less accurate than is allowed?"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from picojoule.cli.output import print_json
from picojoule.errors import BadInput, MissedLimit

Change = Annotated[str | None, Parameter(allow_leading_hyphen=True)]  # -0.2pt is a value, no option


def gate(
    base: Path,
    new: Path,
    /,
    *,
    energy: Change = None,
    accuracy: Change = None,
    acs: Change = None,
    silent: Change = None,
    hardware: str | None = None,
    json: bool = False,
) -> None:
    """Compare two measurements; exit with 3 if NEW misses a limit against BASE.

    A limit without a sign is how much worse NEW may be; with a sign it is the change that is allowed.

    Args:
        base: A measurement: record.json, what `measure --json` printed, or a .jsonl file, whose last line is taken.
        new: Another one, of the same data.
        energy: Limit of energy, such as +2%, at every price list that both have.
        accuracy: Limit of accuracy in percentage points, such as -0.2pt.
        acs: Limit of accumulates, such as +5%.
        silent: Limit of the share of silent neurons in percentage points, such as +1pt.
        hardware: Comma list of the price lists that --energy is about.
        json: Print one JSON object on stdout and nothing else.
    """
    from picojoule.report.gate import check, gate_table, missed_sentence, only_in_one, parse_limit, read_measurement

    asked = {"energy": energy, "accuracy": accuracy, "acs": acs, "silent": silent}
    limits = [parse_limit(quantity, text) for quantity, text in asked.items() if text is not None]
    if not limits:
        raise BadInput("expected at least one limit, such as --energy +2% or --accuracy -0.2pt")
    price_lists = [name.strip() for name in (hardware or "").split(",") if name.strip()]
    if hardware is not None and (energy is None or not price_lists):
        raise BadInput("--hardware names price lists for --energy; give both, or leave --hardware out")
    before, after = read_measurement(base), read_measurement(new)
    checks = check(before, after, limits, price_lists, (str(base), str(new)))
    kept = all(c.kept for c in checks)
    if json:
        rows = [c._asdict() | {"base": c.base._asdict(), "new": c.new._asdict()} for c in checks]
        print_json({"base": str(base), "new": str(new), "kept": kept, "checks": rows})
    else:
        print(gate_table(checks))
        if energy is not None and not price_lists:
            for name in only_in_one(before, after):
                print(f"not compared: {name}, which only one of the measurements has")
        if kept:
            print("every limit is kept")
    if not kept:
        raise MissedLimit(missed_sentence(checks))
