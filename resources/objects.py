"""Objects under a root: written whole or not at all, on a folder or an object store, one code path through fsspec.

What the objects mean stays out; see `resources.lake`.
"""

import contextlib
import functools
import io
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import fsspec

from resources.content import new_hash
from resources.errors import LakeError, MissingArtifactError

_THREADS = 16


class _HashingWriter(io.RawIOBase):
    """Passes bytes on to a file and hashes them on the way."""

    def __init__(self, target: BinaryIO) -> None:
        self.target = target
        self.digest = new_hash()
        self.size = 0

    def write(self, data: Any, /) -> int:
        self.digest.update(data)
        self.size += len(data)
        self.target.write(data)
        return len(data)

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def _whole_or_nothing(file: fsspec.spec.AbstractBufferedFile) -> Iterator[BinaryIO]:
    """Commit an object when its writer ends well, and only then; fsspec's own `with` commits the half of it too."""
    try:
        yield file
    except BaseException:
        file.discard()
        file.closed = True
        raise
    file.close()


class Objects:
    """A root URL and the fsspec filesystem behind it."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.options = dict(options or {})
        protocol = url.split("://", 1)[0] if "://" in url else "file"
        self.protocol = protocol
        if protocol == "file":
            url = os.path.abspath(url.removeprefix("file://"))  # noqa: PTH100 - fsspec wants text
        elif protocol == "s3":
            self.options.setdefault("use_listings_cache", False)
        self.url = url.rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url})"

    @functools.cached_property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The filesystem; connecting waits until something is read or written."""
        return fsspec.filesystem(self.protocol, **self.options)

    def path(self, *parts: str) -> str:
        """Return the full path of an object under the root."""
        return "/".join([self.url, *parts])

    def write(self, path: str, write: Callable[[BinaryIO], None]) -> tuple[int, str]:
        """Write one object as a whole and return its size and digest; a reader never sees half of it.

        Raises:
            LakeError: the lake cannot be written.
        """
        try:
            if self.protocol != "file":
                with _whole_or_nothing(self.fs.open(path, "wb")) as file:
                    writer = _HashingWriter(file)
                    write(writer)  # type: ignore[arg-type]
                return writer.size, writer.digest.hexdigest()
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - hot path, 10 times pathlib
            scratch = f"{path}.{uuid.uuid4().hex[:8]}.part"
            try:
                with open(scratch, "wb") as file:  # noqa: PTH123 - as above
                    writer = _HashingWriter(file)
                    write(writer)  # type: ignore[arg-type]
                os.replace(scratch, path)  # noqa: PTH105 - as above
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(scratch)  # noqa: PTH108 - as above
                raise
        except OSError as error:
            raise LakeError(self._cannot("write", path, error)) from error
        return writer.size, writer.digest.hexdigest()

    def create(self, path: str, data: bytes) -> None:
        """Write one object only if it is absent: exclusive create on disk, `If-None-Match` on S3.

        Raises:
            FileExistsError: it is there already.
            LakeError: the lake cannot be written.
        """
        try:
            if self.protocol == "file":
                os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                scratch = f"{path}.{uuid.uuid4().hex[:8]}.part"
                with open(scratch, "xb") as file:  # noqa: PTH123
                    file.write(data)
                try:
                    os.link(scratch, path)  # a link appears whole or not at all
                finally:
                    os.unlink(scratch)  # noqa: PTH108
            else:
                self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            raise
        except OSError as error:
            raise LakeError(self._cannot("write", path, error)) from error

    def read(self, path: str) -> bytes:
        """Return one object's bytes.

        Raises:
            MissingArtifactError: there is no such object.
            LakeError: the lake cannot be read.
        """
        try:
            if self.protocol == "file":
                with open(path, "rb") as file:  # noqa: PTH123
                    return file.read()
            return bytes(self.fs.cat_file(path))
        except FileNotFoundError as error:
            raise MissingArtifactError(f"there is no object {path} in the lake.") from error
        except OSError as error:
            raise LakeError(self._cannot("read", path, error)) from error

    def _cannot(self, verb: str, path: str, error: OSError) -> str:
        reason = error.strerror or type(error).__name__
        return f"cannot {verb} {path}: {reason}. Check that the lake {self.url} exists and may be written by this user."

    def names(self, path: str) -> list[str]:
        """Return the names directly under a folder, sorted; none where it does not exist."""
        if self.protocol == "file":
            try:
                return sorted(name for name in os.listdir(path) if not name.endswith(".part"))  # noqa: PTH208
            except (FileNotFoundError, NotADirectoryError):
                return []
        try:
            return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in self.fs.ls(path, detail=False))
        except FileNotFoundError:
            return []

    def tree(self, path: str) -> list[str]:
        """Return the relative paths of all objects under a folder."""
        if self.protocol == "file":
            return sorted(_walk(path, ""))
        root = self.fs._strip_protocol(path).rstrip("/") + "/"  # noqa: SLF001 - fsspec's own way to its key form
        return sorted(key.removeprefix(root) for key in self.fs.find(path))

    @contextlib.contextmanager
    def pool(self, size: int) -> Iterator[Callable[..., list[Any]]]:
        """Give a map over many small objects: in parallel where each is a request, in turn on a local disk."""
        if size <= 1 or self.protocol == "file":
            yield lambda function, items: [function(item) for item in items]
            return
        with ThreadPoolExecutor(min(_THREADS, size)) as pool:
            yield lambda function, items: list(pool.map(function, items))

    def polars_options(self) -> dict[str, str] | None:
        """Return polars' own storage options for this lake; None where its defaults do."""
        if self.protocol != "s3":
            return None
        endpoint = self.options.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
        client = self.options.get("client_kwargs", {})
        given = {
            "aws_access_key_id": self.options.get("key"),
            "aws_secret_access_key": self.options.get("secret"),
            "aws_session_token": self.options.get("token"),
            "aws_region": client.get("region_name"),
            "aws_endpoint_url": endpoint,
            "aws_allow_http": "true" if endpoint and endpoint.startswith("http://") else None,
        }
        return {key: value for key, value in given.items() if value is not None}


def _walk(root: str, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _walk(entry.path, f"{prefix}{entry.name}/")
                elif not entry.name.endswith(".part"):
                    yield prefix + entry.name
    except (FileNotFoundError, NotADirectoryError):
        return
