"""The command `loop`: what it refuses. Its days: see tests/authoring/test_loop.py."""

from pathlib import Path

import pytest

from tests.cli.commands import Command


@pytest.mark.parametrize(("options", "message"), [
    (["--seconds", "1"], "--seconds is 1; expected 5 or more."),
    (["--seconds", "nan"], "--seconds is nan; expected 5"),
    (["--days", "0"], "--days is 0; expected 1 or more."),
    (["--port", "70000"], "--port is 70000; expected 1 to 65535."),
    (["--folder", "."], "--folder . exists and is no loop that was begun; name a new folder."),
])  # fmt: skip
def test_wrong_arguments_are_refused_and_nothing_is_written(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)

    assert message in command("loop", *options, code=2).err
    assert [] == [*tmp_path.iterdir()]
