"""A PostgreSQL server of the tests' own: Debian's, on loopback, with a password, gone when they end.

What is kept in it stays out; see the tests beside this.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2
import pytest

from tests.http_server import free_port

PASSWORD: Final = "not-for-anybody-else"  # noqa: S105 - of a server that is gone with the tests
INSTALL: Final = "PostgreSQL's server is not installed here; apt-get install postgresql, and these tests run."


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int

    def database(self) -> dict[str, Any]:
        """Make an empty database, and return how `dagster.yaml` names it."""
        name = f"dagster_{uuid.uuid4().hex[:8]}"
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=PASSWORD, dbname="postgres"
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return {
            "username": "postgres", "password": PASSWORD, "hostname": "127.0.0.1", "port": self.port, "db_name": name,
        }  # fmt: skip


def binaries() -> Path | None:
    """Return where the server's programs are: the newest that Debian has, else what is on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


@contextmanager
def running() -> Iterator[Server]:
    """Give a server; skip the test where none is installed."""
    programs = binaries()
    if programs is None:
        pytest.skip(INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")  # it refuses to run as root
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = str(folder / "data")
        _run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", secret, "-N",
              "--locale=C", "-E", "UTF8"])  # fmt: skip
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off",
            "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 50,
        }  # fmt: skip
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        _run([programs / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"])
        try:
            yield Server(port)
        finally:
            _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder)


def _run(command: Sequence[object]) -> None:
    as_other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*as_other, *map(str, command)], check=False, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
