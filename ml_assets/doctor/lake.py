"""Checks the lake with a probe, its clock and its promotion logs."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from ml_assets.contracts.words import counted
from ml_assets.doctor.checks import Finding
from ml_assets.lake.errors import LakeError
from ml_assets.lake.objects import PROBES, Objects
from ml_assets.lake.promotion_log import PromotionLog, models_with_log
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake

IMPATIENT: Final = {"attempts": 2, "seconds": 3.0, "connect_timeout": 2.0, "read_timeout": 3.0}
"""Timeouts for a person at a terminal; see `ml_assets.lake.access.Patience`."""
_FIX: Final = (
    "ML_ASSETS_LAKE is its address. Credentials come from the usual AWS chain and need ListBucket, GetObject, "
    "PutObject and DeleteObject there."
)
_OFF, _FAR_OFF = timedelta(seconds=5), timedelta(minutes=5)


def lake(resource: LakeResource) -> Iterator[Finding]:
    """Yield how the lake handles a probe object, which is removed again."""
    try:
        yield from _probe(impatient(resource))
    except LakeError as error:
        yield Finding("lake", "wrong", str(error), _FIX)


def impatient(resource: LakeResource) -> Lake:
    """Return the lake with short timeouts."""
    return resource.model_copy(update={"options": {**resource.options, **IMPATIENT}}).connect()


def promotion_logs(resource: LakeResource) -> Iterator[Finding]:
    """Yield damages of the promotion logs. Each log is compared with all manifests that name its entries."""
    lake, intact = impatient(resource), 0
    try:
        for model in models_with_log(lake):
            log = PromotionLog(lake, model)
            look = log.inspect(manifests=None)
            if look.problems:
                text = f"that of {model} is damaged: {'; '.join(look.problems)}."
                yield Finding("promotion log", "wrong", text, log.repair)
            elif look.entries:
                intact += 1
    except LakeError as error:
        yield Finding("promotion log", "not checked", str(error), _FIX)
        return
    if intact:
        text = f"intact for {counted(intact, 'model')}, with every entry that manifests name."
        yield Finding("promotion log", "ok", text)


def _probe(lake: Objects) -> Iterator[Finding]:
    path, data = lake.path(PROBES, f"{uuid.uuid4().hex}.txt"), b"ml-assets doctor was here\n"
    before = datetime.now(tz=UTC)
    lake.create(path, data)
    after = datetime.now(tz=UTC)
    try:
        yield _exclusive(lake, path, data)
        is_same = lake.read(path) == data and path.rsplit("/", 1)[1] in lake.names(lake.path(PROBES))
        written = lake.stat(path).modified_at
    finally:
        lake.remove(path)
    if is_same:
        yield Finding("lake", "ok", f"{lake.url} writes, reads, lists and removes objects.")
    else:
        yield Finding(
            "lake", "wrong", f"{lake.url} does not return or list what was just written.",
            "Turn off caches in between; the store must show a write to every later read.",
        )  # fmt: skip
    yield _clock(before, written, after)


def _exclusive(lake: Objects, path: str, data: bytes) -> Finding:
    try:
        lake.create(path, data)
    except FileExistsError:
        return Finding("lake create", "ok", "creating an existing object fails, so two promotions cannot both succeed.")
    how = "If-None-Match" if lake.protocol == "s3" else "exclusive create"
    return Finding(
        "lake create", "wrong", f"the store does not support {how}: it overwrote an existing object.",
        "Use a store, or a newer version of it, that does; two concurrent promotions could both succeed here.",
    )  # fmt: skip


def _clock(before: datetime, written: datetime, after: datetime) -> Finding:
    """Return the difference between the lake's clock and this machine's. Stores report whole seconds."""
    early, late = before - written - timedelta(seconds=1), written - after
    off = max(early, late, timedelta())
    ahead = "ahead of" if late > early else "behind"
    if off < _OFF:
        return Finding("clock", "ok", "the lake's clock agrees with this machine's.")
    return Finding(
        "clock", "wrong" if off >= _FAR_OFF else "warning",
        f"the lake's clock is {off.total_seconds():,.0f} seconds {ahead} this machine's; locks and known times depend "
        "on it, and S3 refuses requests that are 15 minutes off.",
        "Synchronize both with a time server (chrony, systemd-timesyncd).",
    )  # fmt: skip
