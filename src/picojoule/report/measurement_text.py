"""A measurement for a terminal."""

from textwrap import fill

from picojoule.report.block import Block
from picojoule.report.conversion import KEYS
from picojoule.report.load import Record
from picojoule.report.measurement import measurement_blocks, measurement_heading
from picojoule.report.table import aligned

WIDTH = 120


def measurement_text(record: Record) -> str:
    """Aligned tables and wrapped sentences."""
    return "\n\n".join([_wrapped(measurement_heading(record), ""), *map(_block, measurement_blocks(record))])


def conversion_text(record: Record) -> str:
    """What `convert` prints: the conversion, and what it costs; the rest is in its files."""
    kept = [block for block in measurement_blocks(record) if block.key in (*KEYS, "energy", "baselines")]
    return "\n\n".join([_wrapped(measurement_heading(record), ""), *map(_block, kept)])


def _block(block: Block) -> str:
    block = block.brief or block
    if not block.columns and len(block.lines) == 1:
        return _wrapped(f"{block.title}: {block.lines[0]}", "")
    lines = [block.title]
    if block.columns:
        rows = zip(*map(aligned, block.columns), strict=True)
        table = [f"  {'  '.join(row)}".rstrip() for row in rows]
        lines += [line for n, line in enumerate(table) if n != 1 or line]  # no empty line of notes
    lines += [_wrapped(line, "  ") for line in block.lines]
    return "\n".join(lines)


def _wrapped(line: str, indent: str) -> str:
    hanging = f"{indent}  " if indent else ""
    return fill(line, WIDTH, initial_indent=indent, subsequent_indent=hanging, break_long_words=False)
