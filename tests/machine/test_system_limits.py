"""What the machine refuses is reported with its cause, the limit, and what to set; the texts are those of libraries."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from ml_assets.lake.errors import LakeError
from ml_assets.lake.store import Lake
from ml_assets.machine.system_limits import advice
from ml_assets.warehouse.duckdb_session import connect
from tests.faults import FaultyDisk

SAYS = {
    "disk": "A disk is full. Free space: ",
    "quota": "The disk quota of this user is used up.",
    "file": "The file size limit is reached: ",
    "files": "The limit of open files is reached: ",
    "memory": "There is not enough memory: this process may use ",
    "right": f"Missing permission: this process runs as user {os.geteuid()}, ",
    "read-only": "The disk is mounted read-only.",
    "temporary": "No temporary folder is writable. Free space: ",
}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "disk"), (errno.EDQUOT, "quota"), (errno.EFBIG, "file"), (errno.EMFILE, "files"),
        (errno.ENFILE, "files"), (errno.EACCES, "right"), (errno.EPERM, "right"), (errno.EROFS, "read-only"),
        (errno.ENOMEM, "memory"),
    ],
)  # fmt: skip
def test_each_system_error_has_its_own_advice(number: int, kind: str) -> None:
    error = OSError(number, os.strerror(number), "/a/file")

    assert advice(f"OSError: {error}").startswith(SAYS[kind])


@pytest.mark.parametrize(
    ("message", "kind"),
    [  # as they came where the resource was really used up
        ("ComputeError: parquet: File out of specification: underlying IO error: No space left on device (os error 28)",
         "disk"),
        ('IOException: IO Error: Could not write file "/t/x.duckdb": No space left on device', "disk"),
        ("OutOfMemoryException: Out of Memory Error: failed to offload data block of size 96.0 KiB", "disk"),
        ("OperationalError: (sqlite3.OperationalError) database or disk is full", "disk"),
        ("OperationalError: unable to open database file", "files"),
        ("OperationalError: (sqlite3.OperationalError) disk I/O error", "disk"),
        ("ImportError: _duckdb.so: failed to map segment from shared object", "memory"),
        ("LightGBMError: std::bad_alloc", "memory"),
        ("LightGBMError: bad allocation", "memory"),
        ("FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp']", "temporary"),
    ],
)  # fmt: skip
def test_the_messages_of_libraries_are_recognized(message: str, kind: str) -> None:
    assert advice(message).startswith(SAYS[kind])


def test_where_files_may_only_have_a_size_sqlites_error_is_about_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (100_000, 100_000))

    assert advice("(sqlite3.OperationalError) disk I/O error").startswith(SAYS["file"] + "100,000 bytes")


def test_a_librarys_failed_allocation_is_reported() -> None:
    with pytest.raises(MemoryError) as numpys:
        np.ones(2**60, dtype=np.uint8)
    with pytest.raises(MemoryError) as arrows:
        pa.allocate_buffer(2**60)
    with connect() as connection:
        connection.execute("set memory_limit = '4MB'; set temp_directory = ''")
        with pytest.raises(duckdb.OutOfMemoryException) as duckdbs:
            connection.execute("create table t as select random() from range(10000000)")

    for caught in (numpys, arrows, duckdbs):
        assert advice(f"{caught.type.__name__}: {caught.value}").startswith(SAYS["memory"])
    assert advice("MemoryError: ").startswith(SAYS["memory"])


def test_a_missing_permission_of_sqlite_is_reported(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as made:
        made.execute("create table t (a)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(f"file:{tmp_path}/a.db?mode=ro", uri=True).execute("insert into t values (1)")

    assert advice(str(caught.value)).startswith(SAYS["read-only"])


def test_other_errors_and_those_with_a_fix_get_no_advice() -> None:
    first = advice("OSError: [Errno 28] No space left on device")

    assert advice("ValueError: 7") == ""
    assert advice(f"LakeError: cannot write a: No space left on device. {first}") == ""


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, "disk"), (errno.EACCES, "right"), (errno.EMFILE, "files")])
def test_a_lake_that_cannot_be_written_names_the_exhausted_resource(number: int, kind: str, tmp_path: Path) -> None:
    def fails(_: str) -> None:
        raise OSError(number, os.strerror(number))

    lake = Lake(str(tmp_path))
    with FaultyDisk(at=2, then=fails), pytest.raises(LakeError) as caught:
        lake.write(lake.path("a", "b.json"), lambda file: file.write(b"{}"))

    assert f"{os.strerror(number)}. {SAYS[kind]}" in str(caught.value)


@pytest.mark.parametrize(("limit", "code"), [("-Sn 100", 0), ("-Hn 100", 3)])
def test_a_command_raises_its_limit_of_open_files_or_reports_why_it_cannot(limit: str, code: int) -> None:
    soft = f"ulimit {limit.replace('-H', '-S')}"
    command = f"{soft} && ulimit {limit} && exec {sys.executable} -m ml_assets.cli.main --help"

    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == code
    expected = "ml-assets: this process may open 100 files; expected at least 256. Raise the limit: ulimit -n 4096.\n"
    assert done.stderr == (expected if code else "")


def test_a_command_without_a_temporary_folder_names_the_setting(tmp_path: Path) -> None:
    code = f"import tempfile, sys; tempfile._candidate_tempdir_list = lambda: [{str(tmp_path / 'none')!r}]"
    code += "; from ml_assets.cli.main import main; sys.exit(main())"

    done = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert "No temporary folder is writable. Free space: " in done.stderr
    assert "Set TMPDIR to a folder that this user may write to." in done.stderr
    assert "Traceback" not in done.stderr
