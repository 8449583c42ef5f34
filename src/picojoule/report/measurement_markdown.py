"""A measurement as Markdown, for a README, a pull request or a paper's appendix."""

from picojoule.report.block import Block
from picojoule.report.load import Record
from picojoule.report.measurement import measurement_blocks, measurement_heading


def measurement_markdown(record: Record) -> str:
    """A section with a table or a list for each part."""
    where = [f"Commit {record['commit']}." if record.get("commit") else "", f"Machine: {record.get('machine')}."]
    parts = [f"## {_escaped(measurement_heading(record))}", *map(_block, measurement_blocks(record))]
    return "\n\n".join([*parts, " ".join(filter(None, where))]) + "\n"


def _block(block: Block) -> str:
    parts = [f"### {_escaped(block.title)}"]
    if block.columns:
        headings = [_escaped(", ".join(filter(None, (c.heading, c.note)))) for c in block.columns]
        rules = [":--" if c.is_text else "--:" for c in block.columns]
        rows = zip(*([_escaped(cell) for cell in c.cells] for c in block.columns), strict=True)
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in (headings, rules, *rows)))
    if block.lines:
        parts.append("\n".join(f"- {_escaped(line)}" for line in block.lines))
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    for mark in "\\`*_|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
