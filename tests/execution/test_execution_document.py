"""The code of docs/execution.md runs."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "execution.md"


def test_the_code_runs():
    names: dict[str, object] = {}
    found = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(found) == 4
    for code in found:
        exec(compile(code, DOCUMENT.name, "exec"), names)
