"""The files of the request log: their names, the period that each belongs to, and the facts that each states.

    requests/<model>/<day>/<time>-<version>-<process>-<number>.parquet

Day and time (milliseconds since 1970) are those of the first row, in UTC. All rows of a file are of the same quarter of
an hour. Time zones differ from UTC by whole quarters of an hour, so no file has rows of two days or periods.

Not here: writing them (see `ml_assets.serving.request_log`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from ml_assets.contracts.days import end_of
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.periods import Calendar
from ml_assets.lake.days import days_between
from ml_assets.lake.manifest import FILES, Manifest
from ml_assets.lake.objects import Objects

REQUESTS: Final = "requests"
"""The folder of the lake."""
FACTS: Final = "ml_assets_log"
"""The key of the facts in a file's metadata."""
FORMAT: Final = 1
"""The version of the files' format."""
QUARTER: Final = timedelta(minutes=15)
SETTLED_AFTER: Final = timedelta(hours=1)
"""How long after a period its files are waited for. Without a failure, the last one is written after a minute."""
_NAME: Final = re.compile(r"(\d{1,13})-[0-9a-f]{8}-[0-9a-f]{8}-\d{6,}\.parquet")


class LogFacts(Record):
    """What a file states about its rows.

    Attributes:
        sample: the share of the requests that was stored.
        hashed: the columns whose values are keyed hashes, or null because there was no key.
    """

    format: Literal[1] = FORMAT
    sample: float = 1.0
    hashed: tuple[str, ...] = ()


def quarter_of(moment: datetime) -> datetime:
    """Return the begin of the quarter of an hour that a moment is in."""
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def file_name(begin: int, version: str, process: str, number: int) -> str:
    """Return the name of a file, from the time of its first row in milliseconds."""
    return f"{begin}-{version[:8]}-{process}-{number:06}.parquet"


def moments_of_period(calendar: Calendar, key: str) -> tuple[datetime, datetime]:
    """Return the first moment of a period and the first one after it, in UTC."""
    if (hour := calendar.hour_of(key)) is not None:
        begin, end = hour, hour + timedelta(hours=1)
    else:
        zone = calendar.timezone
        begin = end_of(calendar.first_day(key) - timedelta(days=1), zone)
        end = end_of(calendar.last_day(key), zone)
    return begin.replace(tzinfo=UTC), end.replace(tzinfo=UTC)


def newest_settled(calendar: Calendar, now: datetime) -> str:
    """Return the newest period whose files have all been written, unless the lake could not be written for an hour."""
    return calendar.newest_over(now - SETTLED_AFTER)


def files_by_period(
    lake: Objects, model: str, calendar: Calendar, keys: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return the files of some periods, as paths below the model's folder, ordered by name.

    Periods without files are absent.
    """
    spans = {key: moments_of_period(calendar, key) for key in keys}
    there = {*lake.names(lake.path(REQUESTS, model))}
    days = {
        key: [str(it) for it in days_between(begin.date(), (end - QUARTER).date()) if str(it) in there]
        for key, (begin, end) in spans.items()
    }
    wanted = sorted({day for its in days.values() for day in its})
    names = dict(zip(wanted, lake.map(lambda day: lake.names(lake.path(REQUESTS, model, day)), wanted), strict=True))
    found = {
        key: tuple(
            f"{day}/{name}"
            for day in its
            for name in sorted(names[day])
            if (at := begin_of_file(name)) is not None and spans[key][0] <= at < spans[key][1]
        )
        for key, its in days.items()
    }
    return {key: files for key, files in found.items() if files}


def names_of_files(manifest: Manifest) -> set[str]:
    """Return the files of the request log that a period of the requests was built from."""
    by_period = manifest.parameters.get(FILES)
    found = by_period.get(manifest.partition or "") if isinstance(by_period, Mapping) else None
    return {str(it["name"]) for it in found or () if isinstance(it, Mapping)} if isinstance(found, Sequence) else set()


def begin_of_file(name: str) -> datetime | None:
    """Return the moment of a file's first row; None if it is no file of the log, such as one that is being written."""
    matched = _NAME.fullmatch(name)
    return None if matched is None else datetime.fromtimestamp(int(matched[1]) / 1000, UTC)
