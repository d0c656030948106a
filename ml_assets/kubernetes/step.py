"""Runs a step's command in its pod, and kills it at once when the pod gets SIGTERM.

Dagster turns SIGTERM into a failure of the step, as if its code had failed. In a pod, SIGTERM means an eviction, a
preemption or a cancelled run, and the process that launched the pod finds out which. No data is lost: an artifact that
is not complete in the lake does not exist.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType


def run_command(command: Sequence[str]) -> int:
    """Run a command and return its exit code, as a shell would; 143 after SIGTERM."""
    ended: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def end(number: int, _: FrameType | None) -> None:
        ended.append(number)
        if child is not None:
            os.killpg(child.pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    child = subprocess.Popen(
        command, start_new_session=True
    )  # its own process group, so that its children are killed too
    if ended:
        os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    if ended:
        return 128 + ended[0]
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:]))
