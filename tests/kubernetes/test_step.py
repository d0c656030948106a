import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.kubernetes.pretended import ROOT


def started(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "ml_assets.kubernetes.step", *command], cwd=ROOT)


def test_a_steps_exit_code_is_its_pods() -> None:
    assert 7 == started(sys.executable, "-c", "raise SystemExit(7)").wait()


def test_a_killed_step_ends_with_the_exit_code_of_a_shell() -> None:
    assert 137 == started(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").wait()


def test_a_terminating_pod_kills_its_step_and_its_children_before_they_can_report_a_failure(tmp_path: Path) -> None:
    written = tmp_path / "written"
    stubborn = f"import signal, time; signal.signal(15, lambda *_: open({str(written)!r}, 'a').write('x'))\n"
    stubborn += f"open({str(written)!r}, 'w').close(); time.sleep(60)"
    pod = started(sys.executable, "-c", stubborn)
    while not written.exists():
        time.sleep(0.01)

    pod.send_signal(signal.SIGTERM)

    assert 143 == pod.wait(timeout=30)
    assert "" == written.read_text()
