"""Checks that look at what this project stands on, side by side, each within bounded time.

What is looked at stays out; see the files beside this.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final, Literal

State = Literal["ok", "warning", "wrong"]
SECONDS: Final = 10.0
"""How long a check may take; what hangs is told, and left."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing, and what to do about it where it is not well."""

    check: str
    state: State
    text: str
    mend: str = ""

    def rewritten(self, clean: Callable[[str], str]) -> "Finding":
        """Return the finding with its texts rewritten."""
        return replace(self, text=clean(self.text), mend=clean(self.mend))


@dataclass(frozen=True)
class Check:
    """A place to look at; what is found is told one by one, so that none is lost where the next hangs."""

    name: str
    look: Callable[[], Iterable[Finding]]
    _found: list[Finding] = field(default_factory=list, repr=False)

    def begin(self) -> "Future[None]":
        """Look, in a thread that nobody waits for at the end of the process.

        An executor's threads are waited for then, so that one that hangs would hang the command.
        """
        done: Future[None] = Future()

        def run() -> None:
            try:
                for finding in self.look():
                    self._found.append(finding)  # one by one, so that what hangs loses none
            except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
                done.set_exception(error)
            else:
                done.set_result(None)

        threading.Thread(target=run, name=f"doctor-{self.name}", daemon=True).start()
        return done

    @property
    def found(self) -> list[Finding]:
        """What has been found so far."""
        return [*self._found]


def examine(checks: Sequence[Check], *, seconds: float = SECONDS) -> Iterator[Finding]:
    """Look at all places side by side, and yield what is found in the order of the checks.

    Args:
        checks: the places.
        seconds: how long all of them may take together.
    """
    running = [(check, check.begin()) for check in checks]
    end = time.monotonic() + seconds
    for check, done in running:
        try:
            done.result(timeout=max(end - time.monotonic(), 0))
        except TimeoutError:
            if done.done():
                raise  # its own, and nobody told it: a defect
            yield from check.found
            yield Finding(
                check.name, "wrong", f"no answer within {seconds:g} seconds; what came before that is told.",
                "See what it waits for: a firewall that swallows packets, a mount or server that hangs.",
            )  # fmt: skip
        else:
            yield from check.found
