"""Objects under a root: written whole or not at all, on a folder or on S3, through the same few calls.

What the objects mean stays out; see `ml_assets.lake.store`. How each place keeps them stands in `ml_assets.lake.disk`
and `ml_assets.lake.s3`.
"""

import contextlib
import functools
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol

from ml_assets.lake.access import Access
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError, UnreachableLakeError
from ml_assets.machine.system_limits import advice

if TYPE_CHECKING:
    import fsspec

_THREADS: Final = 16
_WRITERS: Final = 8


class Stat(NamedTuple):
    """What is known of an object without reading it; its ETag where the store gives one."""

    bytes: int
    modified_at: datetime
    etag: str | None


class Written(NamedTuple):
    """What is known of an object that was just written; its ETag where the store gives one."""

    bytes: int
    digest: str
    etag: str | None


class Takes(Protocol):
    """What bytes can be written to."""

    def write(self, data: Any, /) -> Any:
        """Take some bytes."""


class Store(Protocol):
    """A place where objects lie, by paths relative to the root; what goes wrong is an OSError.

    `check` is told an object's size before it is read, and raises if that is too much.
    """

    def open(self, relative: str, check: Callable[[int], None]) -> BinaryIO: ...  # noqa: D102 - see Objects, as below
    def read(self, relative: str, check: Callable[[int], None]) -> bytes: ...  # noqa: D102
    def write(self, relative: str, write: Callable[[BinaryIO], None]) -> Written: ...  # noqa: D102
    def create(self, relative: str, data: bytes) -> str | None: ...  # noqa: D102
    def names(self, relative: str) -> list[str]: ...  # noqa: D102
    def tree(self, relative: str) -> list[str]: ...  # noqa: D102
    def tree_with_sizes(self, relative: str) -> dict[str, Stat]: ...  # noqa: D102
    def trees(self, relatives: Sequence[str]) -> dict[str, dict[str, Stat]]: ...  # noqa: D102
    def near(self, relative: str, known: Stat) -> Path | None: ...  # noqa: D102
    def stat(self, relative: str) -> Stat: ...  # noqa: D102
    def move(self, source: str, target: str) -> None: ...  # noqa: D102
    def remove(self, relative: str) -> None: ...  # noqa: D102


class HashingWriter(io.RawIOBase):
    """Passes bytes on and hashes them on the way."""

    def __init__(self, target: Takes) -> None:
        from ml_assets.lake.content import new_hash

        self.target = target
        self.digest = new_hash()
        self.size = 0

    def write(self, data: Any, /) -> int:
        """Take some bytes."""
        self.digest.update(data)
        self.size += len(data)
        self.target.write(data)
        return len(data)

    def writable(self) -> bool:
        """Tell that it takes bytes."""
        return True


class Objects:
    """A root URL and the store behind it: a folder, or `s3://bucket/prefix`."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """Note where it is; nothing is connected to before something is read or written.

        Args:
            url: the root.
            options: how to get in there; see `ml_assets.lake.access.Access`.

        Raises:
            LakeError: the URL is none, or carries credentials.
        """
        self.options = dict(options or {})
        protocol, _, place = url.partition("://") if "://" in url else ("file", "", url)
        if protocol not in {"file", "s3"} or not place:
            raise LakeError(
                f"the lake's address begins with '{protocol}://', which is not supported; expected a folder, or "
                "s3://bucket/prefix (most object stores speak S3: set endpoint_url)."
            )
        if protocol == "s3" and "@" in place:
            raise LakeError(
                "the lake's address carries credentials, which would be told in logs, manifests and errors. Give "
                "s3://bucket/prefix alone; the credentials by the usual AWS chain, or as the options access_key_id and "
                "secret_access_key."
            )
        self.protocol = protocol
        self.access = Access.of(self.options)
        self.url = os.path.abspath(place) if protocol == "file" else url  # noqa: PTH100 - hot paths are text
        self.url = self.url.rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url})"

    @functools.cached_property
    def store(self) -> Store:
        """Where the objects lie; connecting waits until something is read or written."""
        if self.protocol == "file":
            from ml_assets.lake.disk import Disk

            return Disk(self.url)
        from ml_assets.lake.s3 import Bucket

        return Bucket(self.url, self.access)

    @functools.cached_property
    def fs(self) -> "fsspec.AbstractFileSystem":
        """The fsspec filesystem behind the root; on S3 its requests are tried again as all others are."""
        import fsspec

        return fsspec.filesystem("file") if self.protocol == "file" else self.store.fs  # type: ignore[attr-defined]

    def path(self, *parts: str) -> str:
        """Return the full path of an object under the root."""
        return "/".join([self.url, *parts])

    def relative(self, path: str) -> str:
        """Return a full path as seen from the root.

        Raises:
            LakeError: it does not lie under the root.
        """
        if path == self.url:
            return ""
        relative = path.removeprefix(f"{self.url}/").rstrip("/")
        is_outside = not path.startswith(f"{self.url}/") or "\0" in path or "://" in relative
        if is_outside or not {"", ".", ".."}.isdisjoint(relative.split("/")):
            raise LakeError(
                f"{path!r} is no path inside the lake {self.url}; nothing there is read or written. Something in the "
                "lake names what lies outside: find out who wrote it."
            )
        return relative

    @contextlib.contextmanager
    def _told(self, verb: str, path: str) -> Iterator[None]:
        """Tell what goes wrong with the object's name.

        Raises:
            MissingArtifactError: there is no such object, and one must be there.
            LakeError: all else.
        """
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
        if self.protocol != "file":
            return reason  # the mend is in the reason
        if hint := advice(reason):
            return f"{reason} {hint}"
        return f"{reason} Check that the lake {self.url} exists and may be written by this user."

    def write(self, path: str, write: Callable[[BinaryIO], None]) -> tuple[int, str]:
        """Write one object as a whole and return its size and digest; see `put_object`."""
        written = self.put_object(path, write)
        return written.bytes, written.digest

    def put_object(self, path: str, write: Callable[[BinaryIO], None]) -> Written:
        """Write one object as a whole, whatever stood there; a reader never sees half of it.

        Raises:
            LakeError: the lake cannot be written.
        """
        relative = self.relative(path)
        with self._told("write", path):
            return self.store.write(relative, write)

    def create(self, path: str, data: bytes) -> str | None:
        """Write one object only if it is absent: exclusive create on disk, `If-None-Match` on S3.

        An attempt whose answer was lost is not taken for somebody else's, and nobody else's for it, however equal.

        Returns:
            Its ETag, where the store gives one.

        Raises:
            FileExistsError: it is there already.
            LakeError: the lake cannot be written.
        """
        relative = self.relative(path)
        with self._told("write", path):
            try:
                return self.store.create(relative, data)
            except FileExistsError as error:
                found = error
        raise found

    def read(self, path: str, *, limit: int | None = None, known: Stat | None = None) -> bytes:
        """Return one object's bytes.

        Args:
            path: the object.
            limit: the most bytes that it may have; it is not read if it has more.
            known: what a listing said of it a moment ago; a copy of that on this machine will do.

        Raises:
            MissingArtifactError: there is no such object.
            CorruptArtifactError: it is larger than it may be.
            LakeError: the lake cannot be read.
        """
        relative = self.relative(path)
        check = functools.partial(_check_size, path, limit)
        with self._told("read", path):
            near = None if known is None else self.store.near(relative, known)
            return self.store.read(relative, check) if near is None else _read_copy(near, check)

    def near(self, path: str, known: Stat) -> Path | None:
        """Return a copy on this machine of an object that was listed, fetched if need be; None where none is kept.

        Raises:
            As `read`.
        """
        relative = self.relative(path)
        with self._told("read", path):
            return self.store.near(relative, known)

    @contextlib.contextmanager
    def opened(self, path: str, *, limit: int | None = None, known: Stat | None = None) -> Iterator[BinaryIO]:
        """Give one object to read, the same bytes however often: the open file on a disk, or what was fetched once.

        Args:
            path: the object.
            limit: as for `read`.
            known: as for `read`.

        Raises:
            As `read`.
        """
        relative = self.relative(path)
        check = functools.partial(_check_size, path, limit)
        with self._told("read", path):
            near = None if known is None else self.store.near(relative, known)
            file = self.store.open(relative, check) if near is None else io.BytesIO(_read_copy(near, check))
        with file:
            yield file

    def download(self, path: str, target: Path) -> None:
        """Copy one object to a file on this machine.

        Raises:
            As `read`.
        """
        with self.opened(path) as file:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                while piece := file.read(2**24):
                    copy.write(piece)

    def names(self, path: str) -> list[str]:
        """Return the names directly under a folder, sorted; none where it does not exist.

        Raises:
            LakeError: the lake cannot be read.
        """
        relative = self.relative(path)
        with self._told("list", path):
            return self.store.names(relative)

    def tree(self, path: str) -> list[str]:
        """Return the relative paths of all objects under a folder, sorted.

        Raises:
            LakeError: the lake cannot be read.
        """
        relative = self.relative(path)
        with self._told("list", path):
            return self.store.tree(relative)

    def tree_with_sizes(self, path: str) -> dict[str, Stat]:
        """Return all objects under a folder by relative path, from one listing; on a disk those half written too.

        Raises:
            LakeError: the lake cannot be read.
        """
        relative = self.relative(path)
        with self._told("list", path):
            return self.store.tree_with_sizes(relative)

    def look_into(self, paths: Sequence[str]) -> dict[str, dict[str, Stat]]:
        """Return all objects under each of some folders, by path from there; nothing of one that does not exist.

        They are found together: an object store is asked for what lies between the first and the last, a thousand at a
        time, and not once for each.

        Args:
            paths: the folders, none of which lies in another.

        Raises:
            LakeError: the lake cannot be read.
        """
        relatives = {self.relative(path): path for path in paths}
        with self._told("list", f"{len(paths)} folders of {self.url}" if len(paths) > 1 else "".join(paths)):
            found = self.store.trees([*relatives])
        return {relatives[relative]: them for relative, them in found.items()}

    def stat(self, path: str) -> Stat:
        """Return an object's size, age and ETag without reading it.

        Raises:
            MissingArtifactError: there is no such object.
            LakeError: the lake cannot be read.
        """
        relative = self.relative(path)
        with self._told("read", path):
            return self.store.stat(relative)

    def size(self, path: str) -> int:
        """Return an object's number of bytes; see `stat`."""
        return self.stat(path).bytes

    def move(self, source: str, target: str) -> None:
        """Give an object another path, whatever stood there: at once on a disk, by a copy within the store on S3.

        Raises:
            MissingArtifactError: there is no such object.
            LakeError: the lake cannot be written.
        """
        old, new = self.relative(source), self.relative(target)
        with self._told("move", source):
            self.store.move(old, new)

    def remove(self, path: str) -> None:
        """Remove an object.

        Raises:
            MissingArtifactError: there is no such object.
            LakeError: the lake cannot be written.
        """
        relative = self.relative(path)
        with self._told("remove", path):
            self.store.remove(relative)

    @contextlib.contextmanager
    def pool(self, size: int, *, writes: bool = False) -> Iterator[Callable[..., list[Any]]]:
        """Give a map over many small objects: in parallel where each is a request, reads of a local disk in turn.

        After the first failure no more are begun.

        Args:
            size: how many there are.
            writes: whether they are written: a disk that is waited for takes many at once in the time of one.
        """
        if size <= 1 or (self.protocol == "file" and not writes):
            yield lambda function, items: [function(item) for item in items]
            return
        with ThreadPoolExecutor(min(_WRITERS if self.protocol == "file" else _THREADS, size)) as pool:
            yield functools.partial(_map, pool)

    def polars_options(self) -> dict[str, str | int] | None:
        """Return polars' own storage options for this lake; None where its defaults do.

        What was not given comes from the same chain as for all other requests, not from one of polars' own.

        Raises:
            LakeError: there are no credentials.
        """
        if self.protocol != "s3":
            return None
        access = self.access
        if access.access_key_id is None and not access.more.get("anon"):
            with self._told("read", self.url):
                access = self.store.found()  # type: ignore[attr-defined]
        return access.polars()


def _map(pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Any) -> list[Any]:
    has_failed = threading.Event()

    def one(item: Any) -> Any:
        if has_failed.is_set():
            return None  # never seen: the failure is raised instead
        try:
            return function(item)
        except BaseException:
            has_failed.set()
            raise

    done = [pool.submit(one, item) for item in items]
    failures = [failure for it in done if (failure := it.exception()) is not None]
    if failures:
        raise failures[0]
    return [it.result() for it in done]


def _read_copy(copy: Path, check: Callable[[int], None]) -> bytes:
    data = copy.read_bytes()
    check(len(data))
    return data


def _check_size(path: str, limit: int | None, size: int) -> None:
    """Refuse to read too much.

    Raises:
        CorruptArtifactError: it would be.
    """
    if limit is not None and size > limit:
        raise CorruptArtifactError(
            f"{path} has {size:,} bytes; expected at most {limit:,}, so it is not read. Look at who wrote it, and "
            "remove it if it does not belong there."
        )
