"""The application: commands by name, one error style, exit codes."""

import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError
from cyclopts.config import Dict

import picojoule
from picojoule.errors import BadInput, FailedRun, MissedLimit

GOOD, FAILED, BAD_USAGE, MISSED = 0, 1, 2, 3

app = App(
    name="picojoule",
    help="Spiking neural networks that earn their energy: train, convert, count every operation, price it, "
    "compare. --config FILE.toml sets the options of any command; what is typed wins.",
    version=picojoule.__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # main says what was kept
)
app.command(
    "picojoule.cli.compare:compare",
    name="compare",
    help="Train methods on one dataset; show accuracy against energy.",
)
app.command("picojoule.cli.train:train", name="train", help="Train one method.")
app.command("picojoule.cli.convert:convert", name="convert", help="A trained network becomes a spiking one.")
app.command("picojoule.cli.measure:measure", name="measure", help="Operations and joules of any torch model.")
app.command("picojoule.cli.gate:gate", name="gate", help="Exit with 3 if a measurement is worse than allowed.")
app.command("picojoule.cli.report:report", name="report", help="Page and tables from records.")
app.command("picojoule.cli.cite:cite", name="cite", help="References of methods and prices, or of what records used.")
app.command("picojoule.cli.doctor:doctor", name="doctor", help="What is installed and active.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 good, 1 failed run, 2 bad usage or bad input, 3 missed limit."""
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        arguments = _with_config(arguments)
        app(arguments, exit_on_error=False, print_error=False)
    except BadInput as error:
        return _complain(str(error), BAD_USAGE)
    except CycloptsError as error:
        cause = error.__cause__
        return _complain(str(cause if isinstance(cause, BadInput) else error), BAD_USAGE)
    except FailedRun as error:
        return _complain(str(error), FAILED)
    except MissedLimit as error:
        return _complain(str(error), MISSED)
    except KeyboardInterrupt:
        return _complain("interrupted; what was finished is kept, --resume goes on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return GOOD


def _with_config(arguments: list[str]) -> list[str]:
    """Take `--config FILE.toml` out of the arguments; the command line wins over the file."""
    app.config = ()
    arguments = [part for a in arguments for part in (a.split("=", 1) if a.startswith("--config=") else [a])]
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    if at + 1 == len(arguments):
        raise BadInput("expected a TOML file after --config")
    path = Path(arguments[at + 1])
    if not path.is_file():
        raise BadInput(f"there is no configuration file {path}")
    try:
        settings = _with_comma_lists(tomllib.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no readable TOML file: {error}") from None
    options = settings.get("option", {})
    app.config = (Dict(settings, source=str(path), use_commands_as_keys=False),)
    arguments = arguments[:at] + arguments[at + 2 :]
    typed = {part.split("=")[0] for part in arguments}
    options = options if isinstance(options, dict) else {}  # a wrong type is the parser's to refuse
    # any typed option would hide all of the file's
    return arguments + [f"--option.{k}={v}" for k, v in options.items() if f"--option.{k}" not in typed]


def _with_comma_lists(settings: dict[str, Any]) -> dict[str, Any]:
    """Arrays as the comma lists that the command line takes: `seeds = [0, 1]`, `methods = ["ann", "plain"]`."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            value = _with_comma_lists(value)
        elif isinstance(value, list) and key != "records":  # paths, of which a command takes several
            value = ",".join(map(str, value))
        found[key] = value
    return found


def _complain(sentence: str, code: int) -> int:
    print(f"picojoule: {' '.join(sentence.split())}", file=sys.stderr)
    return code
