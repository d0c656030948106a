"""Ctrl-C and SIGTERM end a command within seconds, leave no process and no temporary file, and print no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import ctypes, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ml_assets.cli import main
from ml_assets.cli.console import interrupts

interrupts.GRACE_SECONDS = 0.5
def busy(_):
    Path(tempfile.mkdtemp(), "scratch").write_text("x")
    child = subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True, stdout=-3)
    print(child.pid, flush=True)
    {body}
main._run = busy
sys.exit(main.main())
""".replace("CHILD", repr("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"))
BUSY = {
    "sleeping": "time.sleep(60)",
    "in a library": "ctypes.CDLL(None).sleep(60)",  # runs no Python until it returns
    "waiting for a thread": "with ThreadPoolExecutor() as pool: pool.submit(time.sleep, 60)",
    "catching everything": """
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass""",
    "failing on the way out": """
    try:
        time.sleep(60)
    finally:
        raise RuntimeError("while it was interrupted")""",
}


def ended(body: str, number: int, folder: Path) -> tuple[int, str, int]:
    """Interrupt a command, and return its exit code, its output, and the process that it had started.

    It is started as a shell's background job is, which ignores SIGINT.
    """
    command = ["/bin/sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, COMMAND.format(body=body)]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    child = int(process.stdout.readline())
    time.sleep(0.2)
    process.send_signal(number)
    _, printed = process.communicate(timeout=55)
    return process.returncode, printed, child


def is_gone(process: int) -> bool:
    """Return whether a process has ended; one whose parent was killed may be a zombie until it is noticed."""
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
@pytest.mark.parametrize(
    ("busy", "number", "code"), [*((it, signal.SIGINT, 130) for it in BUSY), ("sleeping", signal.SIGTERM, 143)]
)
def test_an_interrupted_command_ends_and_leaves_nothing(busy: str, number: int, code: int, tmp_path: Path) -> None:
    begun = time.monotonic()

    got, printed, child = ended(BUSY[busy], number, tmp_path)

    assert (got, printed.strip()) == (code, "ml-assets: interrupted; start the same command again to go on.")
    assert is_gone(child)
    assert [] == [*tmp_path.iterdir()]
    assert time.monotonic() - begun < 50  # what it waits for ends after 60


@pytest.mark.parametrize(
    "when",
    [
        """
class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == "ml_assets.cli.gc":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from ml_assets.cli import main
""",
        """
from ml_assets.cli import main
def interrupted():
    raise KeyboardInterrupt
main.escape_output = interrupted
""",
        """
from ml_assets.cli import main
def interrupted():
    raise KeyboardInterrupt
main._run = lambda _: 0
main.is_output_lost = interrupted
""",
    ],
    ids=["importing", "before it listens", "after it listened"],
)
def test_an_interrupt_while_nothing_listens_ends_with_130_and_no_traceback(when: str) -> None:
    command = [sys.executable, "-c", f"import sys\n{when}\nsys.exit(main.main())"]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert (130, "") == (done.returncode, done.stderr)


LOADING = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Dagster's processes do
os.write(1, b"%d\\n" % os.getpid())  # in one piece: two processes share the pipe
time.sleep(3600)
"""
UI = f"""
import sys
from contextlib import nullcontext
from ml_assets.cli import main, ui
from ml_assets.cli.flow import project

project.prepare = lambda: None
project.open_instance = nullcontext
ui._commands = lambda *_: [[sys.executable, "-c", {LOADING!r}]] * 2
ui.check_address = lambda *_: None
sys.argv = ["ml-assets", "ui", "--port", "1"]
sys.exit(main.main())
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
def test_ctrl_c_ends_the_ui_while_dagsters_processes_load_and_prints_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UI], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    children: list[int] = []
    for line in process.stdout:
        children += [int(word) for word in line.split() if word.isdigit()]
        if len(children) == 2:
            break

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: each process of the group gets it
    _, message = process.communicate(timeout=120)

    assert (130, "ml-assets: interrupted; start the same command again to go on.") == (
        process.returncode,
        message.strip(),
    )
    assert [True, True] == [is_gone(child) for child in children]
