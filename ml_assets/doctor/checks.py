"""Runs the doctor's checks concurrently, each within bounded time.

Not here: the checks themselves (see the other modules of this package).
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, Literal

State = Literal["ok", "warning", "wrong", "not checked"]
STATES: Final[tuple[State, ...]] = ("ok", "warning", "wrong", "not checked")

SECONDS: Final = 60.0
"""How long the checks may take. One that hangs is reported and abandoned. On a busy machine dbt needs half of it."""


@dataclass(frozen=True)
class Finding:
    """One result of a check, with how to fix it if it is a problem, or how to check it if it was not checked."""

    check: str
    state: State
    text: str
    fix: str = ""

    def rewritten(self, clean: Callable[[str], str]) -> "Finding":
        """Return the finding with its texts rewritten."""
        return replace(self, text=clean(self.text), fix=clean(self.fix))


Check = Callable[[], Iterable[Finding]]


def examine(checks: Mapping[str, Check], *, seconds: float = SECONDS) -> Iterator[Finding]:
    """Run all checks concurrently, and yield the findings in the order of the checks.

    Args:
        checks: the checks by name.
        seconds: how long all of them may take together.
    """
    running = {name: _begin(name, check) for name, check in checks.items()}
    end = time.monotonic() + seconds
    for name, (found, done) in running.items():
        try:
            done.result(timeout=max(end - time.monotonic(), 0))
        except TimeoutError:
            if done.done():
                raise  # raised by the check itself, which is a defect
            yield from [*found]
            yield Finding(
                name, "wrong", f"no answer within {seconds:g} seconds; findings before that are shown.",
                "Find out what it waits for: a firewall that drops packets, or a mount or server that hangs.",
            )  # fmt: skip
        else:
            yield from found


def _begin(name: str, check: Check) -> "tuple[list[Finding], Future[None]]":
    """Run a check in a daemon thread; return its findings so far, and when it is done.

    An executor's threads are joined at the end of the process, so a hanging check would hang the command.
    """
    found: list[Finding] = []
    done: Future[None] = Future()

    def run() -> None:
        try:
            for finding in check():
                found.append(finding)  # noqa: PERF402 - one by one, so that none is lost if the check hangs
        except BaseException as error:  # noqa: BLE001 - it is raised again by `Future.result`
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name=f"doctor-{name}", daemon=True).start()
    return found, done
