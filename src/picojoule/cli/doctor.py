"""`picojoule doctor`: what is installed and active."""

from pathlib import Path

from picojoule.cli.output import print_json


def doctor(*, data_dir: Path | None = None, json: bool = False) -> None:
    """Say which versions, devices, kernels and datasets are there.

    Args:
        data_dir: Folder of the datasets; else $PICOJOULE_DATA, else the cache folder.
        json: Print one JSON object on stdout and nothing else.
    """
    from picojoule.experiment.doctor import findings

    found = findings(data_dir)
    if json:
        print_json(found)
        return
    for topic, text in found.items():
        print(f"{topic + ':':<24}{text}")
