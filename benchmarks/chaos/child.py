"""The command over the small flow, in a process that a trial kills, interrupts or starves.

    python -m benchmarks.chaos.child SOURCES MEMORY COMMAND...

SOURCES are the files of `tests.killing.small_sources`, MEMORY what dbt answered before; plots are not drawn. All
else is as ever: the lake is that of ML_ASSETS_LAKE, and the exit code is the command's.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    sources, memory, *command = arguments
    with contextlib.ExitStack() as patched:
        try:
            _prepare(patched, Path(sources), Path(memory))
        except KeyboardInterrupt:  # before the command itself began
            return 130
        from ml_assets.cli.main import main as ml_assets

        sys.argv[1:] = command
        return ml_assets()


def _prepare(patched: contextlib.ExitStack, sources: Path, memory: Path) -> None:
    """Let the command find the declarations of the small flow, and dbt's answers."""
    from tests.builders import nothing_rendered
    from tests.killing import declared, remembered_dbt

    small = declared(sources)
    patched.enter_context(patch("ml_assets.declaration.reading.read_all", lambda _: small))
    patched.enter_context(remembered_dbt(memory))
    patched.enter_context(nothing_rendered())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
