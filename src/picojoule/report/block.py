"""The unit of a measurement's text, Markdown and page."""

from typing import NamedTuple

from picojoule.report.columns import Column


class Block(NamedTuple):
    """A titled table, and sentences below it; either may be empty.

    `brief` says the same in fewer lines, for a terminal.
    """

    key: str
    title: str
    columns: list[Column]
    lines: list[str]
    brief: "Block | None" = None
