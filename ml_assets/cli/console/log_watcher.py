"""Ends the process that copies a step's output when its parent ends, as Dagster's own watcher does (1.13.27).

Dagster's prints a traceback at Ctrl-C, which a terminal sends to every process of the command. It is started by its
path: `ml_assets.cli.flow.runs` names it in place of Dagster's.
"""

import os
import signal
import sys
import time
from contextlib import suppress

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent, copies = map(int, sys.argv[1:3])
    while os.getppid() == parent:
        time.sleep(1)
    with suppress(ProcessLookupError):
        os.kill(copies, signal.SIGTERM)
