"""What has changed since then, and the code of then in a scratch worktree."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.origin import Environment, load_environment
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake
from ml_assets.project import Project
from ml_assets.provenance import original_code as then
from ml_assets.provenance.original_code import code_differences, environment_differences, run_original_code, worktree

SHOWS = """\
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ["ML_ASSETS_LAKE"], os.getcwd(), open("which.txt").read()]))
sys.exit(7)
"""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=sam", "-c", "user.email=sam@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a command that shows how it was called, in two commits that say which they are."""
    root = tmp_path / "repository"
    package = root / "ml_assets" / "cli"
    package.mkdir(parents=True)
    git(root, "init", "--quiet")
    (package / "main.py").write_text(SHOWS)
    for file in (package.parent / "__init__.py", package / "__init__.py", package / "replay.py"):
        file.write_text("")
    for which in ("first", "second"):
        (root / "which.txt").write_text(which)
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--no-gpg-sign", "-m", which)
    return root


def recorded(tmp_path: Path, **changes: Any) -> tuple[Lake, str, Environment]:
    """Write the record of this environment, changed, and return the lake, its digest and what is installed here."""
    lake = Lake(str(tmp_path))
    here = load_environment(lake, lake.environment())
    changed = here.model_copy(update={"digest": "then", **changes})
    (tmp_path / "environments" / "then.json").write_bytes(seal(changed))
    return lake, "then", here


# ---------------------------------------------------------------- environment and code


def test_the_same_environment_differs_in_nothing(lake: Lake) -> None:
    assert [] == environment_differences(lake, lake.environment())


def test_a_package_that_was_changed_added_or_removed_is_named(tmp_path: Path) -> None:
    _, _, here = recorded(tmp_path)
    packages = {**here.distributions, "polars": "0.1", "gone": "1.0"}
    numpy = packages.pop("numpy")
    lake, digest, _ = recorded(tmp_path, distributions=packages, python="3.9.1")

    assert [
        f"python was 3.9.1, is {here.python}",
        "package gone was 1.0, is not installed",
        f"package numpy was not installed, is {numpy}",
        f"package polars was 0.1, is {here.distributions['polars']}",
    ] == environment_differences(lake, digest)


@pytest.mark.parametrize("digest", ["0" * 32, None])
def test_an_environment_without_a_record_is_reported_as_unknown(tmp_path: Path, digest: str | None) -> None:
    [sentence] = environment_differences(Lake(str(tmp_path)), digest)

    assert f"the original environment ({digest}) is not in the lake" in sentence


def test_a_damaged_record_of_an_environment_and_that_of_another_are_named(tmp_path: Path) -> None:
    lake, digest, here = recorded(tmp_path)
    path = tmp_path / "environments" / "then.json"

    path.write_text("{")
    with pytest.raises(CorruptArtifactError, match=r"environments/then\.json is not the record of an environment"):
        environment_differences(lake, digest)

    path.write_bytes(seal(here))
    with pytest.raises(CorruptArtifactError, match=rf"then\.json is the record of environment {here.digest}; expected"):
        environment_differences(lake, digest)


def test_changed_and_removed_code_is_named_by_asset() -> None:
    was = {"raw/a": "1", "raw/b": "1", "raw/c": None, "raw/d": "1", "raw/e": None}
    now = {"raw/a": "1", "raw/b": "2", "raw/c": "3", "raw/e": None, "raw/f": "9"}

    assert [
        "the code of raw/b was 1, is 2",
        "the code of raw/c was unknown, is 3",
        "raw/d is not declared any more",
    ] == code_differences(was, now)


# ---------------------------------------------------------------- the code of then


def test_a_worktree_has_the_code_of_its_commit_and_is_removed_afterwards(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD~1")

    with worktree(repository, first) as code:
        assert "first" == (code / "which.txt").read_text()
        assert code != repository
        assert 2 == len(git(repository, "worktree", "list").splitlines())

    assert not code.exists()
    assert 1 == len(git(repository, "worktree", "list").splitlines())
    assert "second" == (repository / "which.txt").read_text()
    assert "" == git(repository, "status", "--porcelain")


def test_a_worktree_is_removed_after_an_error_too(repository: Path) -> None:
    with pytest.raises(ZeroDivisionError), worktree(repository, git(repository, "rev-parse", "HEAD")) as code:
        raise ZeroDivisionError

    assert not code.exists()
    assert 1 == len(git(repository, "worktree", "list").splitlines())


@pytest.mark.parametrize(
    ("commit", "message"),
    [
        (None, r"no commit was recorded: .* Use the current code: --code current"),
        ("0" * 40, r"commit 000000000000 is not in the repository at .*; fetch it, or use the current code"),
        ("--help", r"commit --help is not in the repository"),
    ],
)
def test_an_unavailable_commit_is_reported_with_a_fix(repository: Path, commit: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message), worktree(repository, commit):
        pass


def test_without_a_repository_there_is_no_original_code(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not in the repository at"), worktree(tmp_path, "a" * 40):
        pass


def test_where_git_is_not_installed_the_current_code_is_offered(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))

    with pytest.raises(DataError, match=r"git is not installed here.* --code current"), worktree(repository, "a" * 40):
        pass


def test_a_command_runs_with_the_code_of_its_commit_on_the_lake_it_is_given(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(then, "find_project", lambda: Project(repository))
    monkeypatch.setenv("ML_ASSETS_LAKE", "another")
    first = git(repository, "rev-parse", "HEAD~1")
    lines: list[str] = []

    code = run_original_code(
        first, ["replay", "run", "raw/a"], lake="s3://bucket/lake", was_dirty=True, log=lines.append
    )

    arguments, lake, folder, which = json.loads(capfd.readouterr().out)
    assert 7 == code
    assert (["replay", "run", "raw/a"], "s3://bucket/lake", "first") == (arguments, lake, which)
    assert not Path(folder).exists()
    assert [
        f"the code has changed since; using the code of commit {first[:12]}",
        "some files differed from that commit; their content was not recorded",
    ] == lines


def test_a_commit_older_than_the_command_is_reported(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(then, "find_project", lambda: Project(repository))
    first = git(repository, "rev-parse", "HEAD~1")

    with pytest.raises(DataError, match=rf"commit {first[:12]} is older than this command; .*--code current"):
        run_original_code(first, ["reproduce", "shop"], lake="lake", was_dirty=False, log=lambda _: None)


def test_both_commands_name_files_that_run_at_looks_for() -> None:
    folder = Path(then.__file__).parent.parent / "cli"

    assert [True, True] == [(folder / f"{name}.py").is_file() for name in ("replay", "reproduce")]


def test_only_the_code_of_another_commit_is_run_through_the_command_line() -> None:
    package = Path(then.__file__).parent.parent
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}

    started = [path for path, text in texts.items() if '"ml_assets.cli.main"' in text and "subprocess" in text]
    assert ["provenance/original_code.py"] == [str(path.relative_to(package)) for path in started]
