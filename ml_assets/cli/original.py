"""A command of this project run with the code of an earlier commit, in a scratch worktree.

Which command, and whether the earlier code is needed, stays out.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from ml_assets.contracts.errors import DataError
from ml_assets.project import PROJECT, find_project
from ml_assets.provenance.original_code import worktree


def run_at(
    commit: str | None, command: Sequence[str], *, lake: str, was_dirty: bool | None, say: Callable[[str], None]
) -> int:
    """Run a command with the code of a commit on the same terminal, and return its exit code.

    Args:
        commit: the commit; None where none was recorded.
        command: its arguments, the command's name first.
        lake: the lake it works on.
        was_dirty: whether files differed from the commit when it was used.
        say: takes what a person should know of it.

    Raises:
        DataError: the commit cannot be had, or does not have the command.
    """
    with worktree(find_project().root, commit) as code:
        if not (code / "ml_assets" / "cli" / f"{command[0]}.py").exists():
            raise DataError(
                f"commit {(commit or '')[:12]} is older than this command; take the current code: --code current."
            )
        say(f"the code has changed since; going on with that of commit {(commit or '')[:12]}")
        if was_dirty:
            say("files differed from that commit then; what they held was not kept")
        environment = {**os.environ, "PYTHONPATH": str(code), PROJECT: str(code), "ML_ASSETS_LAKE": lake}
        whole = [sys.executable, "-m", "ml_assets.cli.main", *command]
        return subprocess.run(whole, check=False, cwd=code, env=environment).returncode
