"""`ml-assets ui`: runs Dagster's webserver and daemon for this project."""

import argparse
import errno
import itertools
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

from ml_assets.contracts.errors import DataError
from ml_assets.project import find_project

_LAST_PORT: Final = 65_535


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("ui", help="run Dagster's web UI and daemon for this project")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    command.add_argument("--port", type=int, default=3000, help="port to listen on (default %(default)s)")
    command.set_defaults(function=ui)


def ui(arguments: argparse.Namespace) -> int:
    """Run the webserver and the daemon until one of them ends or the user stops them.

    Raises:
        DataError: the address is in use or does not exist.
    """
    check_address(arguments.host, arguments.port)
    print(f"Dagster's UI: http://{arguments.host}:{arguments.port} (Ctrl-C ends it)", flush=True)
    return run_ui(arguments.host, arguments.port)


def run_ui(host: str, port: int, output: BinaryIO | None = None) -> int:
    """Run both for the current project, whose output goes to a file if one is given; return the exit code."""
    from ml_assets.cli.flow.project import open_instance, prepare

    project = find_project()
    prepare()
    with open_instance():
        pass  # ends the runs of killed commands, for which the daemon would wait
    processes: list[subprocess.Popen[bytes]] = []

    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
        is_served = is_ui_served(host, port)
        for process in processes:
            if is_served:
                process.terminate()
            else:  # they are still loading and have no runs; SIGTERM would print a traceback
                _signal_group(process, signal.SIGKILL)

    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup sets
        signals.append(signal.SIGHUP)  # a closed terminal
    for number in signals:
        signal.signal(number, stop)
    # Each in its own process group: Ctrl-C reaches only this command, which ends them without a traceback.
    processes.extend(
        subprocess.Popen(
            command, cwd=project.root, env=os.environ.copy(), process_group=0, stdout=output, stderr=output
        )
        for command in _commands(project.workspace, host, port)
    )
    first = _first_ended(processes)
    stop(signal.SIGTERM, None)
    for process in processes:
        process.wait()
        _signal_group(process, signal.SIGTERM)  # ends its code server and runs, too
    return 0 if first.returncode in {0, -signal.SIGTERM, -signal.SIGINT} else 1


def _commands(workspace: Path, host: str, port: int) -> list[list[str]]:
    """Return the commands of the webserver and the daemon."""
    from ml_assets.adapters.dagster import DAEMON

    options = ["-w", str(workspace)]
    return [
        [sys.executable, "-m", "dagster_webserver", *options, "--host", host, "--port", str(port)],
        [sys.executable, "-m", DAEMON, "run", *options],
    ]


def check_address(host: str, port: int) -> None:
    """Refuse an address on which the webserver cannot listen. Otherwise it would report this only after loading.

    Raises:
        DataError: it is in use or does not exist.
    """
    if not 0 < port <= _LAST_PORT:
        raise DataError(f"--port is {port}; expected 1 to {_LAST_PORT}.")
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, place in places:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except OSError as error:
        problem = (
            f"the web UI cannot listen on {host}:{port}: {error.strerror or error}. Choose another --host or --port."
        )
        if error.errno == errno.EADDRINUSE:
            problem = (
                f"port {port} of {host} is in use by another process. End it, or choose another port, for instance: "
                f"ml-assets ui --port {port % _LAST_PORT + 1}"
            )
        raise DataError(problem) from error


def is_ui_served(host: str, port: int) -> bool:
    """Return whether something listens on an address."""
    with suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    return False


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _first_ended(processes: list["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
    for process in itertools.cycle(processes):
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
            return process
    raise ValueError("no process was started")
