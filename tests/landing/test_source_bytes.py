"""A source file that comes slowly, without an end, or packed a thousandfold is refused before it fills memory."""

import gzip
import io
import itertools
import os
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from ml_assets.lake.errors import SourceError
from ml_assets.landing import source_bytes
from ml_assets.landing.sources import Source
from tests.http_server import http_server

SCHEMA = {"n": pl.Int64()}
MIB = 2**20


@contextmanager
def serving(sends: Callable[[], Iterable[bytes]], length: int | None) -> Iterator[str]:
    """Yield the address of a server that sends these pieces to every client."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if length is not None:
            request.send_header("Content-Length", str(length))
        request.end_headers()
        try:
            for piece in sends():
                request.wfile.write(piece)
        except OSError:
            return  # the client has disconnected

    with http_server(answer) as port:
        yield f"http://127.0.0.1:{port}/rows.csv"


def a_byte_at_a_time() -> Iterator[bytes]:
    for byte in b"n\n1\n" * 100:
        yield bytes([byte])
        time.sleep(0.05)


def test_a_server_that_sends_a_byte_at_a_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_bytes, "SLOW_SECONDS", 0.5)
    begun = time.monotonic()

    with (
        serving(a_byte_at_a_time, length=400) as url,
        pytest.raises(SourceError, match=r"came too slowly: \d+ bytes in \d s, and fewer than 65,536 in the last"),
    ):
        Source(url, SCHEMA).content()
    assert time.monotonic() - begun < 20  # all bytes take 20


def test_a_file_that_never_opens_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source_bytes, "SLOW_SECONDS", 0.2)
    os.mkfifo(tmp_path / "rows.csv")

    with pytest.raises(SourceError, match="came too slowly: 0 bytes"):
        Source(str(tmp_path / "rows.csv"), SCHEMA).content()


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_bytes, "memory_bytes", lambda: 16 * MIB)

    with serving(lambda: itertools.repeat(b"1\n" * 2**15), length=None) as url, pytest.raises(SourceError) as error:
        Source(url, SCHEMA).content()
    assert "has more than 8,388,608 bytes, half of this machine's memory. Split it." in str(error.value)


def test_a_file_that_arrives_at_a_usual_pace_is_read_completely() -> None:
    text = b"n\n" + b"1234567\n" * 500_000

    with serving(lambda: [text[:1000], text[1000:]], length=len(text)) as url:
        assert text == Source(url, SCHEMA).content()


def zeros(mib: int) -> Iterator[bytes]:
    yield from (bytes(MIB) for _ in range(mib))


def gzip_bomb(mib: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for piece in zeros(mib):
            file.write(piece)
    return packed.getvalue()


def zip_bomb(mib: int, *, claims: int | None = None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("rows.csv", "w") as file:
        for piece in zeros(mib):
            file.write(piece)
    data = packed.getvalue()
    # The directory's entry names the size that a reader goes by.
    return data if claims is None else data.replace((mib * MIB).to_bytes(4, "little"), claims.to_bytes(4, "little"))


@pytest.mark.parametrize("bomb", [gzip_bomb, zip_bomb])
def test_a_bomb_is_refused_and_unpacked_no_further_than_its_bound(bomb: Callable[[int], bytes]) -> None:
    data = bomb(256)
    assert len(data) < MIB

    tracemalloc.start()
    with pytest.raises(SourceError, match="unpacks to more than 67,108,864 bytes, more than 200 times its size"):
        Source("rows.csv.gz", SCHEMA).frame(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 150 * MIB


def test_a_zip_that_claims_a_smaller_size_is_damaged() -> None:
    with pytest.raises(SourceError, match="is damaged"):
        Source("rows.csv.zip", SCHEMA).frame(zip_bomb(2, claims=1000))


def test_a_small_file_of_equal_rows_is_unpacked() -> None:
    rows = b"n\n" + b"7\n" * 1_000_000

    assert 1_000_000 == Source("rows.csv.gz", SCHEMA).frame(gzip.compress(rows)).height


def test_a_small_parquet_file_of_more_rows_than_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    parquet.write_table(pa.table({"n": pa.array([7] * 1_000_000)}), file)
    assert len(file.getvalue()) < MIB
    monkeypatch.setattr(source_bytes, "memory_bytes", lambda: 8 * MIB)

    with pytest.raises(
        SourceError, match="claims 1,000,000 rows of 1 columns, more than fit into this machine's memory"
    ):
        Source("rows.parquet", SCHEMA).frame(file.getvalue())
