"""Runs the doctor's checks concurrently, each within bounded time.

Not here: the checks themselves (see the other modules of this package).
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final, Literal

State = Literal["ok", "warning", "wrong"]
SECONDS: Final = 10.0
"""How long a check may take. A check that hangs is reported and abandoned."""


@dataclass(frozen=True)
class Finding:
    """One result of a check, with how to fix it if it is a problem."""

    check: str
    state: State
    text: str
    fix: str = ""

    def rewritten(self, clean: Callable[[str], str]) -> "Finding":
        """Return the finding with its texts rewritten."""
        return replace(self, text=clean(self.text), fix=clean(self.fix))


@dataclass(frozen=True)
class Check:
    """A named check. Its findings are collected one by one, so that none is lost if the check hangs later."""

    name: str
    look: Callable[[], Iterable[Finding]]
    _found: list[Finding] = field(default_factory=list, repr=False)

    def begin(self) -> "Future[None]":
        """Run the check in a daemon thread.

        An executor's threads are joined at the end of the process, so a hanging check would hang the command.
        """
        done: Future[None] = Future()

        def run() -> None:
            try:
                for finding in self.look():
                    self._found.append(finding)  # one by one, so that none is lost if the check hangs
            except BaseException as error:  # noqa: BLE001 - it is raised again by `Future.result`
                done.set_exception(error)
            else:
                done.set_result(None)

        threading.Thread(target=run, name=f"doctor-{self.name}", daemon=True).start()
        return done

    @property
    def found(self) -> list[Finding]:
        """The findings so far."""
        return [*self._found]


def examine(checks: Sequence[Check], *, seconds: float = SECONDS) -> Iterator[Finding]:
    """Run all checks concurrently, and yield the findings in the order of the checks.

    Args:
        checks: the checks.
        seconds: how long all of them may take together.
    """
    running = [(check, check.begin()) for check in checks]
    end = time.monotonic() + seconds
    for check, done in running:
        try:
            done.result(timeout=max(end - time.monotonic(), 0))
        except TimeoutError:
            if done.done():
                raise  # raised by the check itself, which is a defect
            yield from check.found
            yield Finding(
                check.name, "wrong", f"no answer within {seconds:g} seconds; findings before that are shown.",
                "Find out what it waits for: a firewall that drops packets, or a mount or server that hangs.",
            )  # fmt: skip
        else:
            yield from check.found
