"""Private names of s3fs and of botocore under it."""

from typing import Final

from botocore.parsers import ResponseParserError  # type: ignore[import-untyped] # raised for a truncated response
from s3fs import S3FileSystem

LIBRARY: Final = "s3fs"
CHECKED: Final = "2026.9.0"
MEMBERS: Final = {
    "S3FileSystem._call_s3(method)": "overridden: every request of s3fs is retried within bounded time",
    "S3FileSystem._copy_managed(path1, path2, size, block)": "copies in parts; `cp_file` takes one request up to 5 GB",
    "S3FileSystem._s3": "the client, whose address names the server in errors",
}
