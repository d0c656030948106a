"""Runs dbt without its start-up time: a server process imports dbt once, and forks a child for each user.

Not here: the commands and their results (see `ml_assets.warehouse.warehouse`, `ml_assets.warehouse.rebuild` and
`ml_assets.warehouse.dbt_manifest`).

Importing dbt takes seconds; forking a process that has imported it takes 20 ms. The first `Dbt` of a process starts the
server. The server ends when its stdin closes, so also when its parent is killed. Each child works for one `Dbt`,
because two dbt runners in threads of one process interfere.

A child reads jobs from stdin, as lines of JSON, and writes dbt's output to stdout. After each job it writes NUL, dbt's
exit code, and the CPU seconds and peak memory used, because the usage of an unwaited child is not available otherwise.
It exits as soon as stdin closes. It parses the project itself, using dbt's partial parsing.

Not `multiprocessing`'s fork server: a process has only one, whose first user decides what it imports, so either dbt or
the modules of Dagster's executor. It also runs the user's main module again in each child.
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
    from ml_assets.adapters.dbt import Manifest

_FAILED: Final = 2
"""dbt's exit code if a command failed without results."""

RESULTS: Final = "run_results.json"
_COMMAND: Final = ("-m", "ml_assets.warehouse.dbt_server")
# Arrow's allocator and numpy start threads at import by default.
_WITHOUT_THREADS: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}

_LEAKS: Final = re.compile(r" - (leaked |\.\.\. skipped)|nanobind: |See https://nanobind")
"""What DuckDB's library prints when a process ends early (2.0)."""


class Dbt:
    """dbt for one project. The process starts with the first command and runs commands one after the other."""

    def __init__(self, project_dir: Path, target: str | None = None) -> None:
        """Start no process yet.

        Args:
            project_dir: the dbt project, which contains its profile too.
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
        """Start no process yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process if it was started, even during a command. The next command starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def parse(self, target: Path, log: Callable[[str], None]) -> int:
        """Parse the project, write dbt's manifest to a folder, and return dbt's exit code.

        Raises:
            WarehouseError: the process ended before the command finished.
        """
        return self._do(["--quiet", "parse"], target, None, log)

    def build(self, command: Sequence[str], *, bindings: Path, target: Path, log: Callable[[str], None]) -> int:
        """Run a command that builds models, and return dbt's exit code.

        Args:
            command: `run` or `build`, with its options.
            bindings: the file that `ml_assets.warehouse.dbt_lake` reads.
            target: the folder where `RESULTS` is written if dbt ran anything.
            log: receives dbt's lines.

        Raises:
            WarehouseError: the process ended before the command finished.
        """
        code = 0 if self._child else self._do(["--quiet", "--no-write-json", "parse"], target, None, log)
        if code:
            self.close()  # the project may be fixed before the next command
            return code
        return self._do(["--no-write-json", *command], target, bindings, log)

    def _do(self, command: Sequence[str], target: Path, bindings: Path | None, log: Callable[[str], None]) -> int:
        output: list[str] = []

        def receive(line: str) -> None:
            output.append(line)
            log(line)

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
            code = child.run_job(job, receive)
        except BaseException:
            self.close()  # otherwise the next command would read this command's output
            raise
        if code is None:
            self.close()
            if kills() > killed_before:
                end_pod("dbt")
            lines = [line for line in output or _SERVER.output() if not _LEAKS.match(line)]
            tail = "\n".join(lines[-20:])
            raise WarehouseError(
                f"the process of dbt for {self.project_dir} ended before dbt did, as when it is killed for memory. "
                f"Build fewer days at once, or lower ML_ASSETS_DBT_MEMORY. Its last lines:\n{tail}"
            )
        return code


@dataclass(frozen=True)
class _Child:
    """A process that runs dbt's commands."""

    stdin: IO[str]
    stdout: IO[str]

    def run_job(self, job: dict[str, Any], log: Callable[[str], None]) -> int | None:
        """Run a job and return dbt's exit code; None if the process ended before."""
        try:
            self.stdin.write(json.dumps(job) + "\n")
            self.stdin.flush()
        except BrokenPipeError:
            return None
        for line in self.stdout:
            text, is_end, answer = line.rstrip().partition("\0")
            if text or not is_end:
                log(text)
            if is_end:
                code, cpu, peak = answer.split(" ")
                note_child(cpu_seconds=float(cpu), peak_bytes=int(peak))
                return int(code)
        return None

    def end(self) -> None:
        """End the process, and wait for it."""
        with contextlib.suppress(BrokenPipeError):  # the process has already ended
            self.stdin.close()
        with self.stdout:
            for _ in self.stdout:
                pass


class _Server:
    """The server process, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def child(self, options: Sequence[str]) -> _Child:
        """Return a new child. The options name a project on which a new server warms up."""
        reads, to_server = os.pipe()
        from_server, to_client = os.pipe()
        try:
            with self._lock:
                if self._process is None or self._process.poll() is not None:
                    self._start(options)
                with contextlib.suppress(BrokenPipeError):  # the first job fails and reports it
                    socket.send_fds(self._control, [b"."], [reads, to_client])
        finally:
            os.close(reads)
            os.close(to_client)
        return _Child(
            os.fdopen(to_server, "w", encoding="utf-8"),
            os.fdopen(from_server, encoding="utf-8", errors="replace"),
        )

    def _start(self, options: Sequence[str]) -> None:
        self.close()
        self._control, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *_COMMAND, *options], stdin=theirs.fileno(), stdout=self._log, stderr=self._log,
                env={**os.environ, **_WITHOUT_THREADS},
                start_new_session=True,  # a terminal's interrupt goes to the parent, which stops the server
            )  # fmt: skip

    def output(self) -> list[str]:
        """Return the server's own output."""
        if self._process is None:
            return []
        self._log.seek(0)
        return self._log.read().decode(errors="replace").splitlines()

    def close(self) -> None:
        """End the server if it was started. Children end with their users."""
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
    """Import dbt and use it once, then fork a child for each message from stdin.

    Returns only in the children, with the CPU seconds that the server has used since the last fork.
    """
    from ml_assets.adapters.dbt_preload import import_dbt

    import_dbt()
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    from dbt.cli.main import dbtRunner

    with temporary_folder("dbt") as folder:
        # Most of the cost of a process's first parse are imports and compiled templates. The result is ignored, because
        # each child parses the project itself. The static parser would start threads.
        quick = ["--no-write-json", "--no-static-parser", "parse", *options]
        dbtRunner().invoke([*quick, "--target-path", str(folder), "--log-path", str(folder)])
    gc.freeze()
    atexit.register(gc.unfreeze)  # in the children: otherwise DuckDB reports its objects as leaked
    tasks = Path("/proc/self/task")
    has_threads = threading.active_count() > 1 or (tasks.exists() and len([*tasks.iterdir()]) > 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    control = socket.socket(fileno=0)
    reported = 0.0
    while True:
        _, fds, _, _ = socket.recv_fds(control, 1, 2)
        if not fds:
            os._exit(0)
        spent = cpu_seconds()
        if os.fork() == 0:
            break
        reported = spent
        for fd in fds:
            os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.detach()
    for fd, standard in zip((fds[0], fds[1], fds[1]), (0, 1, 2), strict=True):
        os.dup2(fd, standard)
    for fd in fds:
        os.close(fd)
    if has_threads:  # a fork loses them while their locks stay held: start over, which is slower
        os.execv(sys.executable, [sys.executable, *_COMMAND])  # noqa: S606 - no shell is meant
    return spent - reported


def _work(spent: float = 0.0) -> None:
    """Run jobs from stdin, one after the other. `spent`: CPU seconds of the server to be charged to this process."""
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    manifest, reported = None, -spent
    while True:
        job = jobs.get()
        try:
            code, manifest = _do(job, manifest)
        except Exception as error:  # noqa: BLE001 - such as a full disk, which dbt does not handle
            print(f"{type(error).__name__}: {error}")  # noqa: T201 - stdout is the protocol
            with contextlib.suppress(OSError):
                Path(job["results"]).unlink()  # they are incomplete
            code = _FAILED
        cpu = cpu_seconds()
        print(f"\0{code} {cpu - reported:.6f} {peak_memory_bytes()}", flush=True)  # noqa: T201 - stdout is the protocol
        reported = cpu


def _do(job: dict[str, Any], manifest: "Manifest | None") -> tuple[int, "Manifest | None"]:
    from dbt.cli.main import dbtRunner

    from ml_assets.adapters.dbt import DbtUsageException, Manifest, RunExecutionResult
    from ml_assets.adapters.dbt_duckdb import DuckDBConnectionManager
    from ml_assets.warehouse.dbt_lake import VARIABLE

    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"] | ({VARIABLE: job["bindings"]} if job["bindings"] else {}))
    # The adapter reuses its in-memory database for the next invocation, which still has the last one's files bound.
    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    done = dbtRunner(manifest=manifest).invoke(job["arguments"])
    if isinstance(done.result, Manifest):
        manifest = done.result
    elif isinstance(done.result, RunExecutionResult):
        done.result.write(job["results"])  # dbt would also write its manifest, which takes 0.3 s
    elif isinstance(done.exception, DbtUsageException):
        print(done.exception)  # noqa: T201 - dbt does not print usage errors itself
    return (0 if done.success else _FAILED if done.exception else 1), manifest


if __name__ == "__main__":
    _work(_serve(sys.argv[1:]) if sys.argv[1:] else 0.0)
