"""Compares an artifact's original code and environment with the current ones, and runs commands with original code.

Not here: replay and reproduction (see `ml_assets.provenance.replay` and `ml_assets.provenance.reproduction`).
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ml_assets.contracts.errors import DataError
from ml_assets.dagster_storage.code_versions import code_parts
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.manifests import Manifests
from ml_assets.lake.origin import current_environment, load_environment
from ml_assets.machine.temporary import temporary_folder
from ml_assets.project import PROJECT, find_project


def environment_differences(lake: Manifests, digest: str | None) -> list[str]:
    """Return the differences between the original and the current environment, a sentence each.

    Raises:
        CorruptArtifactError: the record of the environment is damaged.
    """
    now = current_environment()
    if digest == now.digest:
        return []
    try:
        then = load_environment(lake, digest)
    except MissingArtifactError:
        return [f"the original environment ({digest}) is not in the lake, so what has changed is unknown"]
    return [
        f"package {it.name} was {it.was or 'not installed'}, is {it.is_now or 'not installed'}"
        if it.is_package
        else f"{it.name} was {it.was}, is {it.is_now}"
        for it in then.changes(now)
    ]


def code_differences(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """Return the assets whose code version differs from the original, a sentence each."""
    return [
        f"the code of {asset} was {code_parts(version)[0] or 'unknown'}, is {code_parts(now[asset])[0] or 'unknown'}"
        if asset in now
        else f"{asset} is not declared any more"
        for asset, version in sorted(then.items())
        if asset not in now or code_parts(now[asset])[0] != code_parts(version)[0]
    ]


def run_original_code(
    commit: str | None, command: Sequence[str], *, lake: str, was_dirty: bool | None, log: Callable[[str], None]
) -> int:
    """Run a command with the code of a commit in the same terminal, and return its exit code.

    `was_dirty` is whether files differed from the commit; `log` is called with messages for the user.

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


@contextmanager
def worktree(root: Path, commit: str | None) -> Iterator[Path]:
    """Yield a scratch worktree of a commit of the repository at `root`, and remove it afterwards.

    Raises:
        DataError: there is no repository, or it does not have the commit.
    """
    if commit is None:
        raise DataError(
            "no commit was recorded: the code did not run from a git repository. Use the current code: --code current."
        )
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise DataError(
            f"commit {commit[:12]} is not in the repository at {root}; fetch it, or use the current code with "
            "--code current."
        )
    with temporary_folder("code") as folder:
        path = folder / "code"
        added = _git(root, "worktree", "add", "--detach", str(path), commit)
        if added.returncode:
            raise DataError(f"git cannot check out {commit[:12]}: {added.stderr.strip()}")
        try:
            yield path
        finally:
            _git(root, "worktree", "remove", "--force", str(path))


def _git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise DataError(
            "git is not installed here, so the original code is not available; use the current code: --code current."
        ) from error
