"""The lines of code that a model card shows, run."""

import re
from pathlib import Path
from typing import Any


def names(folder: Path) -> dict[str, Any]:
    """What the lines of an exported folder's README.md define, with the folder in place of "."."""
    text = (folder / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None and 'folder = "."' in found[1], text
    defined: dict[str, Any] = {}
    exec(found[1].replace('folder = "."', f"folder = {str(folder)!r}"), defined)
    return defined
