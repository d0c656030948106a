"""The bytes of a source file, read and unpacked within bounds of time and memory.

A server may send a byte a second or without an end, and an archive of a megabyte may unpack to a gigabyte.
"""

import gzip
import threading
import time
import zipfile
from collections.abc import Callable
from typing import BinaryIO, Final

import fsspec

from ml_assets.lake.origin import memory_bytes
from ml_assets.project import declared_place

LEAST_BYTES: Final = 2**16
SLOW_SECONDS: Final = 120.0
"""In which at least `LEAST_BYTES` must come."""

MOST_RATIO: Final = 200
"""Of unpacked to packed bytes. CSV files reach 20 to 50, columns of one value 100."""

ALWAYS_UNPACKED: Final = 64 * 2**20
"""Bytes up to which a packed file may unpack whatever the ratio."""

_CHUNK: Final = 2**20


class BoundError(ValueError):
    """A file goes beyond a bound; the message is a sentence that goes on after the file's name."""


def most_bytes() -> int:
    """Return how many bytes one source file may have: its rows take as much memory again."""
    return memory_bytes() // 2


def read_file(url: str) -> bytes:
    """Return a file's bytes.

    Raises:
        BoundError: it comes too slowly, or is too large.
        OSError: it cannot be opened or read; other errors come from the protocol's library.
    """
    return _read(lambda: _opened(url))


def unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a file of an archive.

    Raises:
        BoundError: it unpacks to too much.
    """
    most = _most_unpacked(member.compress_size)
    with archive.open(member) as file:
        return _within(file.read(most + 1), most)


def gunzipped(packed: BinaryIO, size: int) -> bytes:
    """Return what a gzip file of some size holds.

    Raises:
        BoundError: it unpacks to too much.
    """
    most = _most_unpacked(size)
    with gzip.GzipFile(fileobj=packed) as file:
        return _within(file.read(most + 1), most)


def _most_unpacked(size: int) -> int:
    return min(max(ALWAYS_UNPACKED, MOST_RATIO * size), most_bytes())


def _within(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise BoundError(
            f"unpacks to more than {most:,} bytes, more than {MOST_RATIO} times its size or half of this machine's "
            "memory. Split it, or give it unpacked."
        )
    return content


def _opened(url: str) -> BinaryIO:
    if not url.startswith(("http://", "https://")):
        file: BinaryIO = fsspec.open(declared_place(url), "rb").open()
        return file
    from fsspec.implementations.http import aiohttp  # which ends every answer after five minutes, unless told otherwise

    # A block size of 0: one answer, read as it comes, where every block would be a request.
    patient = aiohttp.ClientTimeout(total=None, sock_connect=60)
    streamed: BinaryIO = fsspec.open(url, "rb", block_size=0, client_kwargs={"timeout": patient}).open()
    return streamed


def _read(opened: Callable[[], BinaryIO]) -> bytes:
    """Read in a thread, and wait for it no longer than bytes come."""
    pieces: list[bytes] = []
    failed: list[BaseException] = []
    is_over = threading.Event()
    most = most_bytes()
    count = 0

    def read() -> None:
        nonlocal count
        try:
            with opened() as file:
                while count <= most and not is_over.is_set() and (piece := file.read(_CHUNK)):
                    pieces.append(piece)
                    count += len(piece)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            failed.append(error)
        finally:
            is_over.set()

    threading.Thread(target=read, daemon=True).start()
    begun, before = time.monotonic(), 0
    while not is_over.wait(SLOW_SECONDS):
        if count - before < LEAST_BYTES:
            is_over.set()
            raise BoundError(
                f"came too slowly: {count:,} bytes in {time.monotonic() - begun:.0f} s, and fewer than "
                f"{LEAST_BYTES:,} in the last {SLOW_SECONDS:.0f}. Try again later, or copy the file to a place that "
                "sends it faster."
            )
        before = count
    if failed:
        raise failed[0]
    if count > most:
        raise BoundError(f"has more than {most:,} bytes, half of this machine's memory. Split it.")
    return b"".join(pieces)
