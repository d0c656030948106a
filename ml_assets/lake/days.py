"""Functions on days as partition keys: naming ranges of days, and finding days that are missing.

Pure: the asset graph and dbt's metadata say which days an asset reads, and the lake which days exist.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, TypeVar

from ml_assets.contracts.periods import DAILY, Calendar

ALLOW_GAPS: Final = "ml_assets/allow_gaps"
"""Metadata of an asset that may be materialized although earlier days of its inputs are missing."""

OPTIONAL_LOOK_BACK: Final = "ml_assets/optional_look_back"
"""Metadata of an asset that reads only existing earlier days, and requires none of them."""

K = TypeVar("K", bound=Hashable)

Days = Mapping[str, tuple[str, ...]]
"""Ordered days by asset. '' is the key of an asset without partitions."""


@dataclass(frozen=True)
class Gaps:
    """The missing inputs of one partition.

    Attributes:
        blocking: inputs that the partition requires.
        allowed: earlier days that its declaration allows to be missing.
    """

    blocking: Days
    allowed: Days


def gaps_of(
    day: str, reads: Mapping[str, Iterable[str]], there: Mapping[str, Container[str]], *, allow_gaps: bool
) -> Gaps:
    """Return the missing inputs of a partition.

    A day with an artifact is not missing, even with few rows. Days after the partition's own may still arrive, and are
    not missing either.

    Args:
        day: the partition; '' for an asset without partitions.
        reads: by asset, the partitions that it reads, from the first declared day on.
        there: by asset, the partitions that exist or that the same run materializes.
        allow_gaps: whether earlier days may be missing.
    """
    blocking: dict[str, tuple[str, ...]] = {}
    allowed: dict[str, tuple[str, ...]] = {}
    for asset, names in reads.items():
        missing = sorted(name for name in names if name <= day and name not in there.get(asset, ()))
        before = tuple(name for name in missing if allow_gaps and name not in {"", day})
        others = tuple(name for name in missing if name not in before)
        if before:
            allowed[asset] = before
        if others:
            blocking[asset] = others
    return Gaps(blocking, allowed)


def merge_days(found: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, tuple[str, ...]]:
    """Return the union of days by asset, in order."""
    days: dict[str, set[str]] = {}
    for one in found:
        for asset, names in one.items():
            days.setdefault(asset, set()).update(names)
    return {asset: tuple(sorted(days[asset])) for asset in sorted(days) if days[asset]}


def days_by_asset(days: Mapping[str, Iterable[str]], calendar: Calendar = DAILY) -> str:
    """Return days by asset as text: «raw/a of 2013-01-05 to 2013-01-06, raw/b»."""
    return ", ".join(
        f"{asset} of {' and '.join(span_of(row) for row in in_rows(dated, calendar=calendar))}" if dated else asset
        for asset, names in days.items()
        if (dated := sorted({*names} - {""})) or "" in names
    )


def split_into_runs(
    days: Iterable[str], due: Mapping[K, AbstractSet[str]], may: Callable[[K, str], bool]
) -> Iterator[tuple[tuple[K, ...], tuple[str, ...]]]:
    """Yield the assets and days of each run. A run materializes all its assets for all days from its first to its last.

    Args:
        days: consecutive days, in order.
        due: by asset, the days to materialize.
        may: returns whether an asset may be materialized for a day that is not due, so that a run may include it.
    """
    run: list[str] = []
    assets: set[K] = set()
    length = 0  # days of the run up to the last one with anything due

    def fits(day: str, added: Iterable[K]) -> bool:
        more = [(key, it) for key in added for it in run]
        return all(it in due[key] or may(key, it) for key, it in (*((key, day) for key in assets), *more))

    for day in days:
        wanted = {key for key, its in due.items() if day in its}
        if run and not fits(day, wanted - assets):
            yield tuple(key for key in due if key in assets), tuple(run[:length])
            run, assets = [], set()
        if run or wanted:
            run.append(day)
            assets |= wanted
            length = len(run) if wanted else length
    if run:
        yield tuple(key for key in due if key in assets), tuple(run[:length])


def days_between(first: date, last: date) -> list[date]:
    """Return all days of a range, both ends included."""
    return [first + timedelta(days=past) for past in range((last - first).days + 1)]


def span_of(days: Sequence[str]) -> str:
    """Return consecutive days as text: the first to the last; '' if there are none."""
    return "" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def in_rows(days: Sequence[str], *, most: int | None = None, calendar: Calendar = DAILY) -> list[tuple[str, ...]]:
    """Return the keys of periods as groups of consecutive ones, each of at most `most` periods."""
    rows: list[list[str]] = []
    for day in days:
        is_next = rows and day == calendar.moved(rows[-1][-1], 1)
        if is_next and len(rows[-1]) != most:
            rows[-1].append(day)
        else:
            rows.append([day])
    return [tuple(row) for row in rows]
