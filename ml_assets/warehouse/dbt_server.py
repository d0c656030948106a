"""dbt without its start-up: a process that has imported dbt once, and forks a child for whoever needs one.

What dbt is asked, and what its answers mean, stays out; see `ml_assets.warehouse.warehouse`,
`ml_assets.warehouse.rebuild` and `ml_assets.warehouse.dbt_manifest`.

Importing dbt costs seconds, a fork of a process that has done so 20 ms. The first `Dbt` of a process starts the server,
which ends when its stdin does: with its process, killed or not. A child works for one `Dbt`. It reads jobs from stdin,
lines of JSON, writes what dbt says to stdout, and after each job NUL, dbt's exit code, and the CPU seconds and memory
that it took, which nobody learns otherwise of a child that is not waited for; when stdin ends it ends, whatever it
does. It parses the project itself, from what was parsed before: what must be read again is dbt's decision.
Two of dbt's runners break each other in threads of one process, so each `Dbt` has a child of its own.

Where there is no fork, the same child is a process that imports dbt itself.
"""

import atexit
import contextlib
import gc
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.origin import peak_memory_bytes
from ml_assets.lake.usage import cpu_seconds, note_child
from ml_assets.machine.memory_kills import end_pod, kills
from ml_assets.machine.temporary import temporary_folder

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_FAILED: Final = 2
"""dbt's exit code where it could not do what it was asked, and has no results."""

RESULTS: Final = "run_results.json"
_COMMAND: Final = ("-m", "ml_assets.warehouse.dbt_server")
# Arrow's allocator and numpy otherwise start threads when they are imported.
_WITHOUT_THREADS: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}

_LEAKS: Final = re.compile(r" - (leaked |\.\.\. skipped)|nanobind: |See https://nanobind")
"""What DuckDB's library prints where a process ends early (2.0)."""


class Dbt:
    """dbt on one project, in a process that starts with the first command and does one after the other."""

    def __init__(self, project_dir: Path, target: str | None = None) -> None:
        """Start nothing yet.

        Args:
            project_dir: the dbt project, which holds its profile too.
            target: the profile's target; its default if empty.
        """
        self.project_dir = project_dir.absolute()
        parsed = self.project_dir / "target" / "partial_parse.msgpack"
        self._options = [
            "--project-dir", str(self.project_dir), "--profiles-dir", str(self.project_dir), "--no-use-colors",
            "--no-send-anonymous-usage-stats", "--log-level-file", "none", *(["--target", target] if target else []),
            *(["--partial-parse-file-path", str(parsed)] if parsed.exists() else []),
        ]  # fmt: skip
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, as `close` does."""
        self.close()

    def close(self) -> None:
        """End the process, if it was started, whatever it does; the next command starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def parse(self, target: Path, say: Callable[[str], None]) -> int:
        """Parse the project, write dbt's manifest to a folder, and return dbt's exit code.

        Raises:
            WarehouseError: the process ended before dbt did.
        """
        return self._do(["--quiet", "parse"], target, None, say)

    def build(self, command: Sequence[str], *, bindings: Path, target: Path, say: Callable[[str], None]) -> int:
        """Do a command that builds models, and return dbt's exit code.

        Args:
            command: `run` or `build`, with its options.
            bindings: the file that `ml_assets.warehouse.dbt_lake` reads.
            target: the folder where `RESULTS` is written if dbt ran anything.
            say: takes dbt's lines.

        Raises:
            WarehouseError: the process ended before dbt did.
        """
        code = 0 if self._child else self._do(["--quiet", "--no-write-json", "parse"], target, None, say)
        if code:
            self.close()  # the project may be mended before the next command
            return code
        return self._do(["--no-write-json", *command], target, bindings, say)

    def _do(self, command: Sequence[str], target: Path, bindings: Path | None, say: Callable[[str], None]) -> int:
        said: list[str] = []

        def hear(line: str) -> None:
            said.append(line)
            say(line)

        job = {
            "arguments": [*command, *self._options, "--target-path", str(target), "--log-path", str(target)],
            "folder": str(self.project_dir),
            "results": str(target / RESULTS),
            "bindings": bindings and str(bindings),
            "environment": {**os.environ},
        }
        child = self._child = self._child or _SERVER.child(self._options)
        killed_before = kills()
        try:
            code = child.ask(job, hear)
        except BaseException:
            self.close()  # an interrupted command leaves no dbt behind, and no answer to the next one
            raise
        if code is None:
            self.close()
            if kills() > killed_before:
                end_pod("dbt")
            told = [line for line in said or _SERVER.said() if not _LEAKS.match(line)]
            tail = "\n".join(told[-20:])
            raise WarehouseError(
                f"the process of dbt for {self.project_dir} ended before dbt did, as when it is killed for memory. "
                f"Build fewer days at once, or lower ML_ASSETS_DBT_MEMORY. It said:\n{tail}"
            )
        return code


@dataclass(frozen=True)
class _Child:
    """A process that does dbt's commands; `process` where it is a child of this one too."""

    stdin: IO[str]
    stdout: IO[str]
    process: "subprocess.Popen[bytes] | None"

    def ask(self, job: dict[str, Any], say: Callable[[str], None]) -> int | None:
        """Have a job done and return dbt's exit code; None where the process ended before."""
        try:
            self.stdin.write(json.dumps(job) + "\n")
            self.stdin.flush()
        except BrokenPipeError:
            return None
        for line in self.stdout:
            text, is_end, answer = line.rstrip().partition("\0")
            if text or not is_end:
                say(text)
            if is_end:
                code, cpu, peak = answer.split(" ")
                note_child(cpu_seconds=float(cpu), peak_bytes=int(peak))
                return int(code)
        return None

    def end(self) -> None:
        """End the process, and wait until it has ended."""
        with contextlib.suppress(BrokenPipeError):  # what is left to write was for a process that has ended
            self.stdin.close()
        with self.stdout:
            for _ in self.stdout:
                pass
        if self.process is not None:
            self.process.wait()


class _Server:
    """The process that forks, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def child(self, options: Sequence[str]) -> _Child:
        """Return a new child; the options name a project for a new server to warm up on."""
        reads, asks = os.pipe()
        hears, says = os.pipe()
        process = None
        try:
            if hasattr(os, "fork"):
                with self._lock:
                    if self._process is None or self._process.poll() is not None:
                        self._start(options)
                    with contextlib.suppress(BrokenPipeError):  # the first job finds no child, and says so
                        socket.send_fds(self._control, [b"."], [reads, says])
            else:
                process = subprocess.Popen([sys.executable, *_COMMAND], stdin=reads, stdout=says, stderr=says)
        finally:
            os.close(reads)
            os.close(says)
        return _Child(
            os.fdopen(asks, "w", encoding="utf-8"), os.fdopen(hears, encoding="utf-8", errors="replace"), process
        )

    def _start(self, options: Sequence[str]) -> None:
        self.close()
        self._control, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *_COMMAND, *options], stdin=theirs.fileno(), stdout=self._log, stderr=self._log,
                env={**os.environ, **_WITHOUT_THREADS},
                start_new_session=True,  # an interrupt at the terminal is for the parent, which ends what it began
            )  # fmt: skip

    def said(self) -> list[str]:
        """Return what the server itself said."""
        if self._process is None:
            return []
        self._log.seek(0)
        return self._log.read().decode(errors="replace").splitlines()

    def close(self) -> None:
        """End the process, if it was started; children end with those who use them."""
        if self._process is not None:
            with contextlib.suppress(OSError):  # it has ended before
                self._control.shutdown(socket.SHUT_RDWR)
            self._control.close()
            with self._log:
                self._process.wait()
            self._process = None


_SERVER: Final = _Server()
atexit.register(_SERVER.close)


def _serve(options: Sequence[str]) -> float:
    """Import dbt and use it once, then fork a child at each message from stdin.

    Returns in the children, with the CPU seconds that the server has used for each: for the first, its start.
    """
    import multiprocessing

    import dbt.mp_context

    # Semaphores of this context have no name that would outlive a killed child, and no process that looks after them.
    dbt.mp_context._MP_CONTEXT = multiprocessing.get_context("fork")  # type: ignore[assignment]  # noqa: SLF001
    import dbt.task.build
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    from dbt.adapters.duckdb.environments import local  # noqa: F401
    from dbt.cli.main import dbtRunner

    with temporary_folder("dbt") as folder:
        # Most of what the first parse of a process costs are imports and compiled templates. Whether it succeeds is
        # told by the children, which parse for themselves. The static parser would start threads.
        quick = ["--no-write-json", "--no-static-parser", "parse", *options]
        dbtRunner().invoke([*quick, "--target-path", str(folder), "--log-path", str(folder)])
    gc.freeze()
    tasks = Path("/proc/self/task")
    has_threads = threading.active_count() > 1 or (tasks.exists() and len([*tasks.iterdir()]) > 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children here
    control = socket.socket(fileno=0)
    told = 0.0
    while True:
        _, fds, _, _ = socket.recv_fds(control, 1, 2)
        if not fds:
            os._exit(0)
        spent = cpu_seconds()
        if os.fork() == 0:
            break
        told = spent
        for fd in fds:
            os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.detach()
    for fd, standard in zip((fds[0], fds[1], fds[1]), (0, 1, 2), strict=True):
        os.dup2(fd, standard)
    for fd in fds:
        os.close(fd)
    if has_threads:  # they are lost in a fork, with the locks that they held: begin again, slower
        os.execv(sys.executable, [sys.executable, *_COMMAND])  # noqa: S606 - no shell is meant
    return spent - told


def _work(spent: float = 0.0) -> None:
    """Do jobs from stdin, one after the other; `spent` was used for this process before it began."""
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    manifest, told = None, -spent
    while True:
        job = jobs.get()
        try:
            code, manifest = _do(job, manifest)
        except Exception as error:  # noqa: BLE001 - such as a full disk, which dbt leaves to its caller
            print(f"{type(error).__name__}: {error}")  # noqa: T201 - stdout is where answers go
            with contextlib.suppress(OSError):
                Path(job["results"]).unlink()  # half of them
            code = _FAILED
        cpu = cpu_seconds()
        print(f"\0{code} {cpu - told:.6f} {peak_memory_bytes()}", flush=True)  # noqa: T201 - stdout is where answers go
        told = cpu


def _do(job: dict[str, Any], manifest: "Manifest | None") -> tuple[int, "Manifest | None"]:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.cli.exceptions import DbtUsageException
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    from ml_assets.warehouse.dbt_lake import VARIABLE

    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"] | ({VARIABLE: job["bindings"]} if job["bindings"] else {}))
    # The adapter keeps its database in memory for the next invocation, with the files of the last one bound.
    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    done = dbtRunner(manifest=manifest).invoke(job["arguments"])
    if isinstance(done.result, Manifest):
        manifest = done.result
    elif isinstance(done.result, RunExecutionResult):
        done.result.write(job["results"])  # dbt would write its manifest beside it, which takes a third of a second
    elif isinstance(done.exception, DbtUsageException):
        print(done.exception)  # noqa: T201 - the one kind of error that dbt leaves to its caller to tell
    return (0 if done.success else _FAILED if done.exception else 1), manifest


if __name__ == "__main__":
    _work(_serve(sys.argv[1:]) if sys.argv[1:] else 0.0)
