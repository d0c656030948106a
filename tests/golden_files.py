"""Golden files: what the project does, written down, so that a change that should change nothing can show it.

A test compares each file. To write them all anew, after a change that is meant, and then review the difference:

    GOLDEN=write .venv/bin/pytest -n 0 tests/test_golden{,_flow}.py tests/kubernetes/test_launch_paths.py
    git diff tests/golden

No file holds the path of a module, so moving code changes none of them.
"""

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

GOLDEN: Final = Path(__file__).parent / "golden"
WRITE: Final = "GOLDEN=write .venv/bin/pytest -n 0 tests/test_golden{,_flow}.py tests/kubernetes/test_launch_paths.py"
_MOST_LINES: Final = 80


def check_golden(name: str, found: str) -> None:
    """Compare text with a golden file, or write the file if requested.

    Raises:
        pytest.fail.Exception: they differ.
    """
    path = GOLDEN / name
    if is_written_anew():
        path.write_text(found, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    if expected == found:
        return
    lines = [*difflib.unified_diff(expected.splitlines(), found.splitlines(), f"tests/golden/{name}", "found", n=1)]
    more = f"\n... and {len(lines) - _MOST_LINES} more lines" if len(lines) > _MOST_LINES else ""
    pytest.fail(
        "\n".join(lines[:_MOST_LINES])
        + f"{more}\n\ntests/golden/{name} differs from what was found. If the change is meant, write the golden files "
        f"anew and review the difference:\n    {WRITE}",
        pytrace=False,
    )


def as_json(found: Mapping[str, Any]) -> str:
    """Return JSON of one form, which is easy to review."""
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def is_written_anew() -> bool:
    """Whether the files are to be written instead of compared."""
    return os.environ.get("GOLDEN") == "write"
