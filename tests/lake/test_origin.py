"""The recorded origin of a process: commit, environment and run."""

from collections.abc import Iterator

import pytest

from ml_assets.lake.origin import GitState, git_state


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    git_state.cache_clear()
    yield
    git_state.cache_clear()


@pytest.mark.parametrize(("built_from", "expected"), [
    ("0123abc", GitState("0123abc", is_dirty=False)),
    ("0123abc-dirty", GitState("0123abc", is_dirty=True)),
])  # fmt: skip
def test_an_image_records_the_commit_it_was_built_from(
    built_from: str, expected: GitState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_ASSETS_COMMIT", built_from)

    assert expected == git_state()
