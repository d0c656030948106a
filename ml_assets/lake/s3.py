"""Stores a lake's objects on S3. Requests are retried within bounded time.

Only a lake on S3 imports this module, because its libraries are slow to import. Not here: what the objects mean (see
`ml_assets.lake.objects`).
"""

import asyncio
import io
import itertools
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from os.path import commonpath
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]
from fsspec.asyn import sync, sync_wrapper

from ml_assets.adapters.s3fs import S3FileSystem
from ml_assets.lake.access import Access, Patience
from ml_assets.lake.content import bytes_digest, file_digest
from ml_assets.lake.copies import COPIES
from ml_assets.lake.objects import Stat, Written
from ml_assets.lake.s3_errors import FAILURES, as_os_error, error_code, is_silence, is_transient

T = TypeVar("T")

PART: Final = 24 * 2**20  # part size of an upload; S3 allows 10,000 parts
BLOCK: Final = 32 * 2**20  # larger objects are read in blocks, so that a broken connection costs little
WHOLE_COPY: Final = 128 * 2**20
_AT_ONCE: Final = 4
_SLOWEST: Final = 100_000  # bytes per second; a slower transfer counts as hanging

_GIVEN_UP: Final = 30.0  # seconds

_MARK: Final = "written-by"  # in an object's metadata: identifies the attempt that wrote it

_log = logging.getLogger(__name__)


class PatientS3(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """s3fs with a single retry mechanism for all requests.

    The retries of s3fs and botocore multiply, are not bounded in time, and miss some transient errors.
    """

    retries = 1

    def __init__(self, *, patience: Patience | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.patience = patience or Patience()
        self._given_up_at: float | None = None

    @property
    def host(self) -> str:
        """The host of the server."""
        endpoint = self._s3.meta.endpoint_url if self._s3 else self.endpoint_url
        return urlsplit(endpoint or "").netloc.rpartition("@")[2] or "S3"

    @property
    def is_given_up(self) -> bool:
        """Whether the server did not respond a moment ago. Requests are then attempted only once.

        A run has many steps. If each waited for the full time, the failure would be reported only after minutes.
        """
        return self._given_up_at is not None and time.monotonic() - self._given_up_at < _GIVEN_UP

    async def patiently(self, attempt: Callable[[], Awaitable[T]], *, size: int = 0) -> T:
        """Return the result of an attempt, and retry it while that may help.

        Args:
            attempt: makes one attempt.
            size: the number of bytes that it sends, during which no other timeout applies.

        Raises:
            OSError: the failure is final, or lasted too long.
        """
        patience = self.patience
        limit = patience.connect_timeout + 2 * patience.read_timeout + size / _SLOWEST if size else None
        since = None
        for number in itertools.count(1):
            try:
                answer = await asyncio.wait_for(attempt(), patience.connect_timeout if self.is_given_up else limit)
            except FAILURES as error:
                pause, now = patience.wait(number), time.monotonic()
                since = since or now
                is_over = number >= patience.attempts or now + pause - since > patience.seconds or self.is_given_up
                if is_over or not is_transient(error):
                    self._given_up_at = now if is_silence(error) else None
                    raise as_os_error(error, self.host, attempts=number) from error
                _log.info("%s: %s; attempt %d in %.1f s", self.host, error_code(error), number + 1, pause)
            else:
                self._given_up_at = None
                return answer
            await asyncio.sleep(pause)
        raise AssertionError("unreachable: counting does not end")

    async def once(self, method: str, **request: Any) -> Any:
        """Make a request without retries."""
        return await super()._call_s3(method, **request)

    async def request(self, method: str, *more: Any, **request: Any) -> Any:
        """Make a request with retries."""
        once, body = super()._call_s3, request.get("Body")
        return await self.patiently(lambda: once(method, *more, **request), size=len(body) if body else 0)

    _call_s3 = request  # all requests of s3fs use this method
    call_s3 = sync_wrapper(request)

    async def _abort_mpu(self, bucket: str, key: str, mpu: str) -> None:
        """Abort an upload that failed. Its failure is reported, so a failure to abort it is only logged."""
        try:
            await super()._abort_mpu(bucket, key, mpu)
        except FileNotFoundError:
            return  # it was completed, and the response was lost
        except OSError as error:
            _log.warning("the upload %s is left unfinished (%s); gc removes it.", mpu, error_code(error))


class Bucket:
    """The objects under a prefix of a bucket. Paths are relative to it."""

    def __init__(self, url: str, access: Access) -> None:
        self.access = access
        self.fs = PatientS3(**access.fsspec())
        self.bucket, prefix, _ = self.fs.split_path(url)
        self.prefix = f"{prefix.rstrip('/')}/" if prefix else ""

    def found(self) -> Access:
        """Return the access with credentials resolved by the usual AWS chain, for polars.

        Raises:
            OSError: there are no credentials.
        """
        return sync(self.fs.loop, self._found)  # type: ignore[no-any-return]

    async def _found(self) -> Access:
        client = await self.fs.set_session()
        credentials = await self.fs.session.get_credentials()
        if credentials is None:
            raise as_os_error(NoCredentialsError(), self.fs.host, attempts=1)
        now = await credentials.get_frozen_credentials()
        return replace(
            self.access,
            access_key_id=now.access_key,
            secret_access_key=now.secret_key,
            session_token=now.token,
            region=self.access.region or client.meta.region_name,
            endpoint_url=client.meta.endpoint_url,
        )

    def _url(self, relative: str) -> str:
        return f"{self.fs.host}/{self.bucket}/{self.prefix}{relative}"

    def _key(self, relative: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + relative}

    def open(self, relative: str, check: Callable[[int], None]) -> BinaryIO:
        """Open an object for reading, fetched whole. `check` receives its size first."""
        return io.BytesIO(self.read(relative, check))

    def read(self, relative: str, check: Callable[[int], None]) -> bytes:
        """Return an object's bytes. `check` receives their number first."""
        return bytes(sync(self.fs.loop, self._read, self._key(relative), check)[0])

    def cached_copy(self, relative: str, known: Stat) -> Path | None:
        """Return a cached copy of a listed object, fetched if needed; None if it is not cached."""
        if known.etag is None:
            return None
        url = self._url(relative)
        found = COPIES.find(url, known.etag)
        if found is None and COPIES.has_room(known.bytes):
            data, etag = sync(self.fs.loop, self._read, self._key(relative), lambda _: None)
            COPIES.store(url, _plain(etag), data)
            found = COPIES.find(url, known.etag)
        return found

    async def _read(self, where: dict[str, str], check: Callable[[int], None]) -> tuple[bytes, str]:
        async def whole() -> tuple[int, str, bytes | None]:
            answer = await self.fs.once("get_object", **where)
            size = int(answer["ContentLength"])
            async with answer["Body"] as body:
                check(size)
                return size, answer["ETag"], await body.read() if size <= BLOCK else None

        size, etag, data = await self.fs.patiently(whole)
        if data is not None:
            return data, etag
        turn = asyncio.Semaphore(_AT_ONCE)

        async def piece(start: int) -> bytes:
            wanted = {"Range": f"bytes={start}-{min(start + BLOCK, size) - 1}", "IfMatch": etag}
            answer = await self.fs.once("get_object", **where, **wanted)
            async with answer["Body"] as body:
                return bytes(await body.read())

        async def in_turn(start: int) -> bytes:
            async with turn:
                return await self.fs.patiently(lambda: piece(start))

        return b"".join(await asyncio.gather(*map(in_turn, range(0, size, BLOCK)))), etag

    def write(self, relative: str, write: Callable[[BinaryIO], object]) -> Written:
        """Write a complete object, replacing any existing one. A large one is written to a temporary file first."""
        with tempfile.SpooledTemporaryFile(PART) as file:
            write(file)  # type: ignore[arg-type]
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size > PART:
                digest = file_digest(file)  # type: ignore[arg-type]
                return Written(size, digest, self._put_in_parts(relative, f"/dev/fd/{file.fileno()}"))
            data = file.read()
        etag = _plain(self.fs.call_s3("put_object", **self._key(relative), Body=data)["ETag"])
        COPIES.store(self._url(relative), etag, data)
        return Written(size, bytes_digest(data), etag)

    def _put_in_parts(self, relative: str, file: str) -> str | None:
        """Upload a file, with a few concurrent parts. The object is invisible before all are there."""
        mark, where = uuid.uuid4().hex, self._key(relative)
        try:
            self.fs.put_file(
                file, "/".join(where.values()), chunksize=PART, max_concurrency=_AT_ONCE, Metadata={_MARK: mark}
            )
        except FileNotFoundError:  # a lost response made s3fs complete an upload twice
            if (etag := self._etag_if_marked(where, mark)) is None:
                raise
            return etag
        return self._etag_if_marked(where, mark)

    def create(self, relative: str, data: bytes) -> str:
        """Write an object that does not exist yet, and return its ETag.

        A request is repeated if its response was lost, by aiohttp even silently, so it may be refused because of
        itself. Equal bytes do not prove that; a mark does.

        Raises:
            FileExistsError: the object exists.
        """
        mark, where = uuid.uuid4().hex, self._key(relative)
        try:
            done = self.fs.call_s3("put_object", **where, Body=data, IfNoneMatch="*", Metadata={_MARK: mark})
            etag = _plain(done["ETag"])
        except FileExistsError:
            if (mine := self._etag_if_marked(where, mark)) is None:
                raise
            etag = mine
        COPIES.store(self._url(relative), etag, data)
        return etag

    def _etag_if_marked(self, where: dict[str, str], mark: str) -> str | None:
        """Return the ETag of an object with this mark; None if it has no mark or another one."""
        head = self.fs.call_s3("head_object", **where)
        return _plain(head["ETag"]) if head.get("Metadata", {}).get(_MARK) == mark else None

    def names(self, relative: str) -> list[str]:
        """Return the names directly under a folder, sorted; empty if it does not exist."""
        prefix = self._folder(relative)
        wanted = {"Bucket": self.bucket, "Prefix": prefix, "Delimiter": "/"}
        found: set[str] = set()
        while True:
            page = self.fs.call_s3("list_objects_v2", **wanted)
            found.update(it["Key"] for it in page.get("Contents", []) if it["Key"][-1] != "/")
            found.update(it["Prefix"].rstrip("/") for it in page.get("CommonPrefixes", []))
            if not page.get("IsTruncated"):
                return sorted(key.removeprefix(prefix) for key in found)
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def tree(self, relative: str) -> list[str]:
        """Return the relative paths of all objects under a folder."""
        return [*self.tree_with_sizes(relative)]

    def tree_with_sizes(self, relative: str) -> dict[str, Stat]:
        """Return all objects under a folder by relative path."""
        return dict(sorted(self.trees([relative])[relative].items()))

    def trees(self, relatives: Sequence[str]) -> dict[str, dict[str, Stat]]:
        """Return all objects under each of several folders by relative path."""
        prefixes = {self._folder(relative): relative for relative in relatives}
        found = sync(self.fs.loop, self._list_each, sorted(prefixes, key=str.encode)) if prefixes else {}
        return {relative: found[prefix] for prefix, relative in prefixes.items()}

    async def _list_each(self, prefixes: list[str]) -> dict[str, dict[str, Stat]]:
        """List the keys under several prefixes in S3's order: the next page, or from the next prefix on."""
        found: dict[str, dict[str, Stat]] = {prefix: {} for prefix in prefixes}
        number, after = 0, prefixes[0]
        while True:
            is_last = number == len(prefixes) - 1
            common = prefixes[-1] if is_last else commonpath([prefixes[number], prefixes[-1]])
            wanted = {"Bucket": self.bucket, "Prefix": common, "StartAfter": after}
            page = await self.fs.request("list_objects_v2", **wanted)
            for it in page.get("Contents", []):
                key = it["Key"]
                while number < len(prefixes) and _is_past(key, prefixes[number]):
                    number += 1
                if number == len(prefixes):
                    return found
                if key.startswith(prefixes[number]) and key[-1] != "/":
                    found[prefixes[number]][key.removeprefix(prefixes[number])] = _stat(it["Size"], it)
            if not page.get("IsTruncated"):
                return found
            after = max(key, prefixes[number], key=str.encode)

    def _folder(self, relative: str) -> str:
        return f"{self.prefix}{relative}/" if relative else self.prefix

    def stat(self, relative: str) -> Stat:
        """Return an object's size, age and ETag."""
        head = self.fs.call_s3("head_object", **self._key(relative))
        return _stat(head["ContentLength"], head)

    def move(self, source: str, target: str) -> None:
        """Copy an object within the store, replacing any existing one, and remove the original."""
        old, new, size = self._key(source), self._key(target), self.stat(source).bytes
        if size <= WHOLE_COPY:
            self.fs.call_s3("copy_object", **new, CopySource=old)
        else:
            paths = "/".join(old.values()), "/".join(new.values())
            sync(self.fs.loop, self.fs._copy_managed, *paths, size, WHOLE_COPY)  # noqa: SLF001 - cp_file would copy 5 GB in one request
        self.fs.call_s3("delete_object", **old)

    def remove(self, relative: str) -> None:
        """Remove an object."""
        self.stat(relative)  # S3 does not report whether the object existed
        self.fs.call_s3("delete_object", **self._key(relative))


def _is_past(key: str, prefix: str) -> bool:
    """Return whether a key sorts after all keys with a prefix."""
    return key.encode() > prefix.encode() and not key.startswith(prefix)


def _plain(etag: str) -> str:
    return etag.strip('"')


def _stat(size: int, head: dict[str, Any]) -> Stat:
    return Stat(size, head["LastModified"], _plain(head["ETag"]))
