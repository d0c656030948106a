"""Workers as processes: how one is found that ended, and that none is left."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from ml_assets.kubernetes.diagnosis import Diagnosis
from ml_assets.workers.crew import Work, WorkerState
from ml_assets.workers.processes import Processes


def process(folder: Path, module: str, *arguments: str, **stdin: Any) -> Processes:
    place = Processes(Work(module, arguments, stdin=stdin, tags={}), folder)
    place.start(0, 0, None)
    return place


def after(place: Processes) -> WorkerState:
    place._running[0].wait(timeout=60)
    return place.look(0)


def test_a_worker_that_finished_is_done_and_got_its_settings_from_its_input_only(tmp_path: Path) -> None:
    place = process(tmp_path, "json.tool", "--indent", "1", secret="not for everybody")

    command = " ".join(map(str, place._running[0].args))
    assert "done" == after(place)
    assert "json.tool --indent 1" in command
    assert "not for everybody" not in command
    assert "not for everybody" in (tmp_path / "worker-0.log").read_text(encoding="utf-8")


def test_one_that_a_signal_ended_is_lost(tmp_path: Path) -> None:
    place = process(tmp_path, "http.server", "--bind", "127.0.0.1", "0")
    assert "running" == place.look(0)

    os.kill(place._running[0].pid, signal.SIGKILL)

    found = after(place)
    assert isinstance(found, Diagnosis)
    assert ("PodLost", True) == (found.kind, found.sentence.endswith("was ended by SIGKILL."))


def test_a_failed_worker_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    found = after(process(tmp_path, "there_is_no_such_module"))

    assert isinstance(found, Diagnosis)
    assert "PodFailed" == found.kind
    assert "No module named there_is_no_such_module" in found.sentence


def test_closing_ends_running_workers_with_all_their_children(tmp_path: Path) -> None:
    place = process(tmp_path, "timeit", "-n", "1", "-s", "import subprocess",
                    "subprocess.run(['sleep', '99'])")  # fmt: skip
    mine = psutil.Process(place._running[0].pid)
    end = time.monotonic() + 60
    while not (children := mine.children(recursive=True)):
        assert time.monotonic() < end, "it never started its child"
        time.sleep(0.02)

    place.close()

    gone, alive = psutil.wait_procs(children, timeout=60)
    assert ([], "PodLost") == (alive, getattr(place.look(0), "kind", None))
    assert gone


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    place = process(tmp_path, "json.tool")
    after(place)

    place.close()
    place.close()
