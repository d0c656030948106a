"""Run a module under a limit of the operating system.

CHAOS_LIMIT=RESOURCE:AMOUNT python -m benchmarks.chaos.starved MODULE ARGUMENT...
"""

import os
import resource
import signal
import sys


def main() -> None:
    """Set the limit and become the module."""
    if limit := os.environ.get("CHAOS_LIMIT"):
        which, _, amount = limit.partition(":")
        resource.setrlimit(int(which), (int(amount), int(amount)))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as most shells' children: the write fails instead
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 - this interpreter


if __name__ == "__main__":
    main()
