"""Folders of processes that were killed: the next process removes them, and never those of a living one."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ml_assets.lake import copies
from ml_assets.machine.temporary import GRACE_SECONDS, PREFIX, abandoned, remove_abandoned, temporary_folder

ROOT = Path(__file__).resolve().parent.parent.parent
HOLDS = """
import sys
from ml_assets.machine.temporary import temporary_folder
with temporary_folder("test") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "spill.tmp").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary folders of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def other_process(place: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Give another process that works in a temporary folder, and the folder."""
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def age(folder: Path, seconds: float) -> None:
    """Let all in a folder be as old as this."""
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_folder_is_empty_and_removed_at_the_end_even_after_a_failure(place: Path) -> None:
    def fail() -> None:
        with temporary_folder("test") as folder:
            assert [] == [*folder.iterdir()]
            assert [folder] == [*place.glob(f"{PREFIX}test-*")]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [] == [*place.iterdir()]


def test_the_folder_of_a_killed_process_is_removed_after_the_grace_period_and_that_of_a_running_one_never(
    place: Path,
) -> None:
    with other_process(place) as (process, folder):
        age(folder, 10 * GRACE_SECONDS)
        assert [] == remove_abandoned()

        process.send_signal(signal.SIGKILL)
        process.wait()
        age(folder, GRACE_SECONDS - 60)
        assert [] == remove_abandoned()

        (folder / "deep" / "spill.tmp").write_bytes(b"")
        age(folder / "deep", GRACE_SECONDS + 60)
        age(folder, GRACE_SECONDS + 60)
        assert [folder] == abandoned()
        with temporary_folder("another"):
            assert not folder.exists()


def test_the_age_of_a_folder_counts_from_its_last_write(place: Path) -> None:
    folder = place / f"{PREFIX}test-x"
    folder.mkdir()
    (folder / "young").write_bytes(b"")
    os.utime(folder, (0, 0))

    assert [] == abandoned()


def test_links_and_folders_of_other_names_are_not_removed(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / f"{PREFIX}link").symlink_to(place / "elsewhere")
    age(place, 2 * GRACE_SECONDS)

    assert [] == remove_abandoned()
    assert (place / "elsewhere").is_dir()


def test_the_copies_of_a_running_process_are_not_removed(place: Path) -> None:
    stored = copies.Copies()
    stored.store("s3://bucket/key", "etag", b"data")
    age(stored.folder, 2 * GRACE_SECONDS)

    assert [] == remove_abandoned()
    assert stored.find("s3://bucket/key", "etag") is not None


def test_every_temporary_folder_of_the_engine_is_one_that_is_found_again() -> None:
    made = re.compile(r"tempfile\.(TemporaryDirectory|mkdtemp|mkstemp|NamedTemporaryFile)\(")
    sources = (ROOT / "ml_assets").rglob("*.py")

    beside_what_is_written = "ml_assets/notebook/export.py"  # the folder of a user, not the temporary one
    assert {
        "ml_assets/cli/console/interrupts.py", "ml_assets/lake/copies.py", "ml_assets/machine/temporary.py",
        beside_what_is_written,
    } == {str(path.relative_to(ROOT)) for path in sources if made.search(path.read_text(encoding="utf-8"))}  # fmt: skip
