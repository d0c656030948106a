"""Finds unfinished multipart uploads, which S3 stores and bills without listing them as objects.

Not here: uploading (see `ml_assets.lake.objects`).
"""

from datetime import datetime
from typing import NamedTuple

from ml_assets.lake.errors import LakeError
from ml_assets.lake.objects import Objects


class UnfinishedUpload(NamedTuple):
    """One unfinished upload."""

    bucket: str
    key: str
    id: str
    since: datetime


def unfinished(lake: Objects) -> list[UnfinishedUpload] | None:
    """Return the unfinished uploads under a lake's root; None if this user may not list them.

    Raises:
        LakeError: they cannot be listed.
    """
    if lake.protocol != "s3":
        return []
    bucket, _, prefix = lake.url.removeprefix("s3://").partition("/")
    found: list[UnfinishedUpload] = []
    wanted = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
    try:
        while True:
            page = lake.fs.call_s3("list_multipart_uploads", **wanted)
            found += [
                UnfinishedUpload(bucket, it["Key"], it["UploadId"], it["Initiated"]) for it in page.get("Uploads", [])
            ]
            if not page.get("IsTruncated"):
                return found
            wanted |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    except PermissionError:
        return None
    except OSError as error:
        raise LakeError(f"the unfinished uploads of {lake.url} cannot be listed: {error}.") from error


def abort(lake: Objects, upload: UnfinishedUpload) -> None:
    """Abort an upload and delete its parts. One that has finished meanwhile is not changed.

    Raises:
        LakeError: it cannot be aborted.
    """
    try:
        lake.fs.call_s3("abort_multipart_upload", Bucket=upload.bucket, Key=upload.key, UploadId=upload.id)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LakeError(f"the unfinished upload of {upload.key} cannot be aborted: {error}.") from error
