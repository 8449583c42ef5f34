"""The files of a measurement: all of them are written, or none."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

from picojoule.files import replacing, writable_folder
from picojoule.report.load import Record
from picojoule.report.measurement_csv import measurement_csv
from picojoule.report.measurement_markdown import measurement_markdown
from picojoule.report.page import page_text


def write_measurement(record: Record, folder: Path) -> None:
    """Write `record.json`, `measurement.md`, `measurement.csv` and `report.html` into `folder`.

    Raises BadInput if the folder cannot be written.
    """
    texts = {
        "record.json": json.dumps(record),
        "measurement.md": measurement_markdown(record),
        "measurement.csv": measurement_csv(record),
        "report.html": page_text([record]),
    }
    writable_folder(folder)
    with ExitStack() as all_at_once:
        for name, text in texts.items():
            file = all_at_once.enter_context(replacing(folder / name))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())  # a full disk shows here, before any of them replaces an old file
