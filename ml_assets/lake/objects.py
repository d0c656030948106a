"""Reads and writes whole objects under a root, which is a folder or an S3 prefix.

Not here: what the objects mean (see `ml_assets.lake.store`), and the two kinds of storage (see `ml_assets.lake.disk`
and `ml_assets.lake.s3`).
"""

import contextlib
import functools
import io
import os
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar

from ml_assets.lake.access import Access
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError, UnreachableLakeError
from ml_assets.machine.system_limits import advice

if TYPE_CHECKING:
    import fsspec

PROBES: Final = "doctor"
"""The folder of objects that are written to try the storage, and removed again."""
_THREADS: Final = 16
_WRITERS: Final = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Stat(NamedTuple):
    """An object's listing entry, with its ETag if the store has one."""

    bytes: int
    modified_at: datetime
    etag: str | None


class Written(NamedTuple):
    """The result of writing an object, with its ETag if the store has one."""

    bytes: int
    digest: str
    etag: str | None


class Store(Protocol):
    """A storage of objects by paths relative to the root. Errors are OSErrors.

    `check` receives an object's size before it is read, and raises if it is too large.
    """

    def open(self, relative: str, check: Callable[[int], None]) -> BinaryIO: ...  # noqa: D102 - see Objects, as below
    def read(self, relative: str, check: Callable[[int], None]) -> bytes: ...  # noqa: D102
    def write(self, relative: str, write: Callable[[BinaryIO], object]) -> Written: ...  # noqa: D102
    def create(self, relative: str, data: bytes) -> str | None: ...  # noqa: D102
    def names(self, relative: str) -> list[str]: ...  # noqa: D102
    def tree(self, relative: str) -> list[str]: ...  # noqa: D102
    def tree_with_sizes(self, relative: str) -> dict[str, Stat]: ...  # noqa: D102
    def trees(self, relatives: Sequence[str]) -> dict[str, dict[str, Stat]]: ...  # noqa: D102
    def cached_copy(self, relative: str, known: Stat) -> Path | None: ...  # noqa: D102
    def stat(self, relative: str) -> Stat: ...  # noqa: D102
    def move(self, source: str, target: str) -> None: ...  # noqa: D102
    def remove(self, relative: str) -> None: ...  # noqa: D102


class Objects:
    """A root URL and its storage: a folder, or `s3://bucket/prefix`."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """Set the root. Nothing is connected to before the first read or write.

        Args:
            url: the root.
            options: access options; see `ml_assets.lake.access.Access`.

        Raises:
            LakeError: the URL is not valid, or contains credentials.
        """
        self.options = dict(options or {})
        protocol, _, place = url.partition("://") if "://" in url else ("file", "", url)
        if protocol not in {"file", "s3"} or not place:
            raise LakeError(
                f"the lake's address begins with '{protocol}://', which is not supported; expected a folder, or "
                "s3://bucket/prefix (for another object store with the S3 protocol, set AWS_ENDPOINT_URL)."
            )
        if protocol == "s3" and "@" in place:
            raise LakeError(
                "the lake's address contains credentials, which logs, manifests and errors would show. Use only "
                "s3://bucket/prefix, and provide credentials through the usual AWS chain, or as the options "
                "access_key_id and secret_access_key."
            )
        self.protocol = protocol
        self.access = Access.of(self.options)
        self.url = os.path.abspath(place) if protocol == "file" else url  # noqa: PTH100 - hot paths are text
        self.url = self.url.rstrip("/")
        if protocol == "file" and os.path.isfile(self.url):  # noqa: PTH113 - as above
            raise LakeError(f"the lake {self.url} is a file; expected a folder. Correct ML_ASSETS_LAKE.")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url})"

    @functools.cached_property
    def store(self) -> Store:
        """The storage. It connects at the first read or write."""
        if self.protocol == "file":
            from ml_assets.lake.disk import Disk

            return Disk(self.url)
        from ml_assets.lake.s3 import Bucket

        return Bucket(self.url, self.access)

    @functools.cached_property
    def fs(self) -> "fsspec.AbstractFileSystem":
        """The fsspec filesystem of the root. On S3 its requests are retried like all others."""
        import fsspec

        return fsspec.filesystem("file") if self.protocol == "file" else self.store.fs  # type: ignore[attr-defined]

    def path(self, *parts: str) -> str:
        """Return the full path of an object under the root."""
        return "/".join([self.url, *parts])

    def relative(self, path: str) -> str:
        """Return a full path relative to the root.

        Raises:
            LakeError: it is not under the root.
        """
        if path == self.url:
            return ""
        relative = path.removeprefix(f"{self.url}/").rstrip("/")
        is_outside = not path.startswith(f"{self.url}/") or "\0" in path or "://" in relative
        if is_outside or not {"", ".", ".."}.isdisjoint(relative.split("/")):
            raise LakeError(
                f"{path!r} is not a path inside the lake {self.url}; it is neither read nor written. Something in the "
                "lake names a path outside of it: find out which process wrote it."
            )
        return relative

    @contextlib.contextmanager
    def _at(self, verb: str, path: str) -> Iterator[str]:
        """Yield a path relative to the root, and convert OSErrors into errors that name the object.

        Raises:
            MissingArtifactError: the object does not exist.
            LakeError: any other error, or the path is not under the root.
        """
        relative = self.relative(path)
        with self._named_errors(verb, path):
            yield relative

    @contextlib.contextmanager
    def _named_errors(self, verb: str, path: str) -> Iterator[None]:
        """As `_at`, for something that is not one path under the root."""
        try:
            yield
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise UnreachableLakeError(self._cannot(verb, path, error)) from error
            if isinstance(error, FileNotFoundError) and verb != "write":
                raise MissingArtifactError(f"there is no object {path} in the lake.") from error
            raise LakeError(self._cannot(verb, path, error)) from error

    def _cannot(self, verb: str, path: str, error: OSError) -> str:
        reason = f"cannot {verb} {path}: {error.strerror or type(error).__name__}."
        if hint := advice(reason):
            return f"{reason} {hint}"
        if self.protocol != "file":
            return reason  # the reason already contains the fix
        return f"{reason} Check that the lake {self.url} exists and is writable for this user."

    def write(self, path: str, write: Callable[[BinaryIO], object]) -> Written:
        """Write one complete object, replacing any existing one. A reader never sees an incomplete object.

        Raises:
            LakeError: the lake cannot be written.
        """
        with self._at("write", path) as relative:
            return self.store.write(relative, write)

    def create(self, path: str, data: bytes) -> str | None:
        """Write an object only if it does not exist: exclusive create on a disk, `If-None-Match` on S3.

        If the response of an attempt is lost, a retry recognizes its own object, even beside another's equal one.

        Returns:
            Its ETag, if the store has one.

        Raises:
            FileExistsError: the object exists.
            LakeError: the lake cannot be written.
        """
        with self._at("write", path) as relative:
            try:
                return self.store.create(relative, data)
            except FileExistsError as error:
                found = error
        raise found

    def read(self, path: str, *, limit: int | None = None, known: Stat | None = None) -> bytes:
        """Return an object's bytes.

        Args:
            path: the object.
            limit: the largest size; a larger object is not read.
            known: the listing entry of the object; allows reading a cached copy.

        Raises:
            MissingArtifactError: the object does not exist.
            CorruptArtifactError: it is larger than allowed.
            LakeError: the lake cannot be read.
        """
        check = functools.partial(_check_size, path, limit)
        with self._at("read", path) as relative:
            copy = None if known is None else self.store.cached_copy(relative, known)
            if copy is None:
                return self.store.read(relative, check)
            data = copy.read_bytes()
            check(len(data))
            return data

    def cached_copy(self, path: str, known: Stat) -> Path | None:
        """Return a cached copy of a listed object, fetched if needed; None if it is not cached.

        Raises:
            As `read`.
        """
        with self._at("read", path) as relative:
            return self.store.cached_copy(relative, known)

    @contextlib.contextmanager
    def opened(self, path: str, *, known: Stat | None = None) -> Iterator[BinaryIO]:
        """Open an object for reading: the file itself on a disk, or its fetched bytes.

        Args:
            path: the object.
            known: as for `read`.

        Raises:
            As `read`.
        """
        with self._at("read", path) as relative:
            copy = None if known is None else self.store.cached_copy(relative, known)
            file = self.store.open(relative, lambda _: None) if copy is None else io.BytesIO(copy.read_bytes())
        with file:
            yield file

    def download(self, path: str, target: Path) -> None:
        """Copy an object to a file on this machine.

        Raises:
            As `read`.
        """
        with self.opened(path) as file:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file_copy:
                while piece := file.read(2**24):
                    file_copy.write(piece)

    def names(self, path: str) -> list[str]:
        """Return the names directly under a folder, sorted; empty if it does not exist.

        Raises:
            LakeError: the lake cannot be read.
        """
        with self._at("list", path) as relative:
            return self.store.names(relative)

    def tree(self, path: str) -> list[str]:
        """Return the relative paths of all objects under a folder, sorted.

        Raises:
            LakeError: the lake cannot be read.
        """
        with self._at("list", path) as relative:
            return self.store.tree(relative)

    def tree_with_sizes(self, path: str) -> dict[str, Stat]:
        """Return all objects under a folder by relative path, from one listing. On a disk incomplete ones are included.

        Raises:
            LakeError: the lake cannot be read.
        """
        with self._at("list", path) as relative:
            return self.store.tree_with_sizes(relative)

    def list_each(self, paths: Sequence[str]) -> dict[str, dict[str, Stat]]:
        """Return all objects under each of several folders by relative path; empty for a folder that does not exist.

        They are listed together: an object store lists everything between the first and the last folder, a thousand
        objects at a time, instead of one request per folder.

        Args:
            paths: the folders, none of which is inside another.

        Raises:
            LakeError: the lake cannot be read.
        """
        relatives = {self.relative(path): path for path in paths}
        with self._named_errors("list", f"{len(paths)} folders of {self.url}" if len(paths) > 1 else "".join(paths)):
            found = self.store.trees([*relatives])
        return {relatives[relative]: them for relative, them in found.items()}

    def stat(self, path: str) -> Stat:
        """Return an object's size, age and ETag without reading it.

        Raises:
            MissingArtifactError: the object does not exist.
            LakeError: the lake cannot be read.
        """
        with self._at("read", path) as relative:
            return self.store.stat(relative)

    def move(self, source: str, target: str) -> None:
        """Move an object, replacing any existing one: atomic on a disk, a copy within the store on S3.

        Raises:
            MissingArtifactError: the object does not exist.
            LakeError: the lake cannot be written.
        """
        with self._at("move", source) as relative:
            self.store.move(relative, self.relative(target))

    def remove(self, path: str) -> None:
        """Remove an object.

        Raises:
            MissingArtifactError: the object does not exist.
            LakeError: the lake cannot be written.
        """
        with self._at("remove", path) as relative:
            self.store.remove(relative)

    def check_writable(self) -> None:
        """Create and remove an object.

        Raises:
            LakeError: one of them fails.
        """
        path = self.path(PROBES, f"{uuid.uuid4().hex}.txt")
        self.create(path, b"ml-assets can write here\n")
        self.remove(path)

    def map(
        self, function: Callable[[_Item], _Result], items: Collection[_Item], *, writes: bool = False
    ) -> list[_Result]:
        """Return the results of a function for many small objects: parallel for requests and writes, else sequential.

        After the first failure no more calls are started.

        Args:
            function: called with each item.
            items: one for each object.
            writes: whether they are written. A disk completes many concurrent writes in the time of one.
        """
        if len(items) <= 1 or (self.protocol == "file" and not writes):
            return [function(item) for item in items]
        has_failed = threading.Event()

        def one(item: _Item) -> _Result | None:
            if has_failed.is_set():
                return None  # never returned: the failure is raised instead
            try:
                return function(item)
            except BaseException:
                has_failed.set()
                raise

        with ThreadPoolExecutor(min(_WRITERS if self.protocol == "file" else _THREADS, len(items))) as pool:
            done = [pool.submit(one, item) for item in items]
        failures = [failure for it in done if (failure := it.exception()) is not None]
        if failures:
            raise failures[0]
        return [it.result() for it in done]  # type: ignore[misc] # no failure: none was skipped

    def polars_options(self) -> dict[str, str | int] | None:
        """Return polars' storage options for this lake; None if the defaults suffice.

        Options that are not set come from the same AWS chain as for all other requests, not from polars' own.

        Raises:
            LakeError: there are no credentials.
        """
        if self.protocol != "s3":
            return None
        access = self.access
        if access.access_key_id is None and not access.more.get("anon"):
            with self._at("read", self.url):
                access = self.store.found()  # type: ignore[attr-defined]
        return access.polars()


def _check_size(path: str, limit: int | None, size: int) -> None:
    """Refuse to read too much.

    Raises:
        CorruptArtifactError: the object is too large.
    """
    if limit is not None and size > limit:
        raise CorruptArtifactError(
            f"{path} has {size:,} bytes; expected at most {limit:,}, so it is not read. Find out which process wrote "
            "it, and remove it if it does not belong there."
        )
