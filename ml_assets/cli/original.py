"""Runs a command of this project with the code of an earlier commit, in a scratch worktree.

Not here: whether the earlier code is needed (see `ml_assets.cli.replay` and `ml_assets.cli.reproduce`).
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from ml_assets.contracts.errors import DataError
from ml_assets.project import PROJECT, find_project
from ml_assets.provenance.original_code import worktree


def run_original_code(
    commit: str | None, command: Sequence[str], *, lake: str, was_dirty: bool | None, log: Callable[[str], None]
) -> int:
    """Run a command with the code of a commit in the same terminal, and return its exit code.

    Args:
        commit: the commit; None if none was recorded.
        command: its arguments, starting with the name of the command.
        lake: the lake that it uses.
        was_dirty: whether files differed from the commit.
        log: called with messages for the user.

    Raises:
        DataError: the commit is not available, or does not have the command.
    """
    with worktree(find_project().root, commit) as code:
        if not (code / "ml_assets" / "cli" / f"{command[0]}.py").exists():
            raise DataError(
                f"commit {(commit or '')[:12]} is older than this command; use the current code: --code current."
            )
        log(f"the code has changed since; using the code of commit {(commit or '')[:12]}")
        if was_dirty:
            log("some files differed from that commit; their content was not recorded")
        environment = {**os.environ, "PYTHONPATH": str(code), PROJECT: str(code), "ML_ASSETS_LAKE": lake}
        whole = [sys.executable, "-m", "ml_assets.cli.main", *command]
        return subprocess.run(whole, check=False, cwd=code, env=environment).returncode
