"""Reads and unpacks source files within limits of time and memory.

A server may send one byte per second, or never end. An archive of a megabyte may unpack to a gigabyte.
"""

import gzip
import hashlib
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
"""The time in which at least `LEAST_BYTES` must arrive."""

MOST_RATIO: Final = 200
"""The highest ratio of unpacked to packed bytes. CSV files reach 20 to 50, columns of a single value 100."""

ALWAYS_UNPACKED: Final = 64 * 2**20
"""The size up to which a packed file may unpack regardless of the ratio."""

_CHUNK: Final = 2**20


class BoundError(ValueError):
    """A file exceeds a limit. The message continues a sentence that begins with the file's name."""


def most_bytes() -> int:
    """Return how many bytes one source file may have. Its rows take about as much memory again."""
    return memory_bytes() // 2


def digest(data: bytes) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.blake2b(data, digest_size=16, usedforsecurity=False).hexdigest()


def read_source(url: str) -> bytes:
    """Return a file's bytes.

    Raises:
        BoundError: it arrives too slowly, or is too large.
        OSError: it cannot be opened or read. Other errors come from the protocol's library.
    """
    return _read(lambda: _opened(url))


def unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a file of an archive.

    Raises:
        BoundError: it unpacks to too many bytes.
    """
    most = _most_unpacked(member.compress_size)
    with archive.open(member) as file:
        return _within(file.read(most + 1), most)


def gunzipped(packed: BinaryIO, size: int) -> bytes:
    """Return the content of a gzip file of a given size.

    Raises:
        BoundError: it unpacks to too many bytes.
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
            "memory. Split it, or provide it unpacked."
        )
    return content


def _opened(url: str) -> BinaryIO:
    if not url.startswith(("http://", "https://")):
        file: BinaryIO = fsspec.open(declared_place(url), "rb").open()
        return file
    from fsspec.implementations.http import aiohttp  # its default timeout ends every response after five minutes

    # Block size 0 streams one response. Otherwise every block would be a request of its own.
    patient = aiohttp.ClientTimeout(total=None, sock_connect=60)
    streamed: BinaryIO = fsspec.open(url, "rb", block_size=0, client_kwargs={"timeout": patient}).open()
    return streamed


def _read(opened: Callable[[], BinaryIO]) -> bytes:
    """Read in a thread, and stop waiting when bytes stop arriving."""
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
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            failed.append(error)
        finally:
            is_over.set()

    threading.Thread(target=read, daemon=True).start()
    begun, before = time.monotonic(), 0
    while not is_over.wait(SLOW_SECONDS):
        if count - before < LEAST_BYTES:
            is_over.set()
            raise BoundError(
                f"came too slowly: {count:,} bytes in {time.monotonic() - begun:.0f} s, and fewer than {LEAST_BYTES:,} "
                f"in the last {SLOW_SECONDS:.0f}. Try again later, or copy the file to a faster server."
            )
        before = count
    if failed:
        raise failed[0]
    if count > most:
        raise BoundError(f"has more than {most:,} bytes, half of this machine's memory. Split it.")
    return b"".join(pieces)
