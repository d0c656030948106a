"""What a step's pod runs: the step's command, which it kills at once when the pod is told to end.

Dagster turns SIGTERM into a failure of the step, as if its code had failed; in a pod it means an eviction, a
preemption or a cancelled run, and whoever started the pod knows which. Nothing is lost: what is half written in the
lake does not exist.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType


def main(command: Sequence[str]) -> int:
    """Run a command and return its exit code, as a shell tells it; 143 if it was told to end."""
    ended: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def end(number: int, _: FrameType | None) -> None:
        ended.append(number)
        if child is not None:
            os.killpg(child.pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    child = subprocess.Popen(command, start_new_session=True)  # a group of its own: its children end with it
    if ended:
        os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    if ended:
        return 128 + ended[0]
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
