"""`picojoule report`: page and tables from records."""

from pathlib import Path
from typing import Literal

from picojoule.cli.output import print_json
from picojoule.errors import BadInput


def report(
    *records: Path,
    out: Path = Path("."),
    markdown: bool = False,
    update: Path | None = None,
    figure: Path | None = None,
    against: Literal["synops", "spikes", "energy"] = "synops",
    json: bool = False,
) -> None:
    """Make report.html from one or many records, and print the table.

    Args:
        records: Files of records (.jsonl or .json).
        out: Folder for report.html.
        markdown: Print the table as Markdown and write no page.
        update: Instead, regenerate the tables inside this Markdown file from the results it names (from here).
        figure: Instead, draw the accuracy of all strengths to this .svg file (needs the extra `plot`).
        against: What the figure draws accuracy against.
        json: Print one JSON object on stdout and nothing else.
    """
    from picojoule.files import writable_folder
    from picojoule.report import (
        markdown_table,
        measurement_markdown,
        measurement_text,
        read_records,
        text_table,
        update_tables,
        write_figure,
        write_page,
    )

    if update is not None:
        if not update.is_file():
            raise BadInput(f"there is no Markdown file {update}")
        changed = update_tables(update, Path.cwd())
        print_json({"updated": changed}) if json else print(f"{update}: {'updated' if changed else 'up to date'}")
        return
    if not records:
        raise BadInput("expected at least one file of records, such as runs/NAME/records.jsonl")
    found = read_records(list(records))
    measured = len(found) == 1 and found[0].get("made_by") == "measure"
    if not measured and any(record.get("accuracy") is None for record in found):
        raise BadInput("expected records with an accuracy to compare, got a measurement without; report it on its own")
    if figure is not None:
        if measured:
            raise BadInput("expected records of runs to draw, got a measurement; name records of `picojoule compare`")
        write_figure(found, writable_folder(figure.parent) / figure.name, against)
        print_json({"figure": str(figure)}) if json else print(f"figure:  {figure}")
        return
    if markdown:
        text = measurement_markdown(found[0]) if measured else markdown_table(found)
        print_json({"markdown": text}) if json else print(text)
        return
    page = writable_folder(out) / "report.html"
    write_page(found, page)
    if json:
        print_json({"records": len(found), "report": str(page)})
    else:
        text = measurement_text(found[0]) if measured else text_table(found)
        print(f"{text}\n\nreport:  {page}")
