"""The one JSON object that a command prints with --json."""

import json


def print_json(result: object) -> None:
    """Print `result` as one line of JSON on stdout."""
    print(json.dumps(result))
