"""The command in the process of a test, and what it prints."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ml_assets.cli.main import main


@dataclass(frozen=True)
class Printed:
    """What a command printed: its result, and its progress and errors."""

    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Command:
    """`ml-assets` in this process; each call compares the exit code and returns what was printed."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, code: int = 0) -> Printed:
        self.capsys.readouterr()
        ended = main([*arguments])
        printed = Printed(*self.capsys.readouterr())
        assert code == ended, printed.text
        assert code in {1, 3} or "Traceback" not in printed.err
        return printed

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Return what the command answers as JSON."""
        return json.loads(self(*arguments, "--json", code=code).out)
