"""Days as partition keys: how they are named in sentences, and which of those that are read are missing.

Pure: which days an asset reads is told by the asset graph and by dbt's metadata, which days there are by the lake.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, TypeVar

ALLOW_GAPS: Final = "ml_assets/allow_gaps"
"""Metadata of an asset that may be made though days before its own are missing of what it reads."""

OPTIONAL_LOOK_BACK: Final = "ml_assets/optional_look_back"
"""Metadata of an asset that reads those of the days before its own that there are, and needs none of them."""

K = TypeVar("K", bound=Hashable)

Days = Mapping[str, tuple[str, ...]]
"""Days by asset, in order; '' stands for an asset without days."""


@dataclass(frozen=True)
class Gaps:
    """What is missing of what one partition reads.

    Attributes:
        blocking: what it cannot be made without.
        allowed: what its declaration allows it to be made without: days before its own.
    """

    blocking: Days
    allowed: Days


def gaps_of(
    day: str, reads: Mapping[str, Iterable[str]], there: Mapping[str, Container[str]], *, allow_gaps: bool
) -> Gaps:
    """Return what is missing of what a partition reads.

    A day that has an artifact is not missing, however few rows it has. Days after the partition's own may still come,
    and are not missing either.

    Args:
        day: the partition; '' where an asset has none.
        reads: by asset, the partitions that it reads, from the first declared day on.
        there: by asset, the partitions that there are, or that the same run makes.
        allow_gaps: whether days before its own may be missing.
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


def merged(found: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, tuple[str, ...]]:
    """Return days by asset, each once and in order."""
    days: dict[str, set[str]] = {}
    for one in found:
        for asset, names in one.items():
            days.setdefault(asset, set()).update(names)
    return {asset: tuple(sorted(days[asset])) for asset in sorted(days) if days[asset]}


def days_by_asset(days: Mapping[str, Iterable[str]]) -> str:
    """Return days by asset as a sentence names them: «raw/a of 2013-01-05 to 2013-01-06, raw/b»."""
    return ", ".join(
        f"{asset} of {' and '.join(span_of(row) for row in in_rows(dated))}" if dated else asset
        for asset, names in days.items()
        if (dated := sorted({*names} - {""})) or "" in names
    )


def runs_of(
    days: Iterable[str], due: Mapping[K, AbstractSet[str]], may: Callable[[K, str], bool]
) -> Iterator[tuple[tuple[K, ...], tuple[str, ...]]]:
    """Yield the assets and days of each run: a run makes all of its assets for all days from its first to its last.

    Args:
        days: consecutive days, in order.
        due: by asset, the days to make.
        may: tells whether an asset may be made again for a day that is not due, so that a run goes on over it.
    """
    run: list[str] = []
    assets: set[K] = set()
    length = 0  # of the run up to the last day on which anything is due

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


def span_of(days: Sequence[str]) -> str:
    """Return consecutive days as a sentence names them: the first to the last; '' where there are none."""
    return "" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def in_rows(days: Sequence[str], *, most: int | None = None) -> list[tuple[str, ...]]:
    """Return days as rows of consecutive ones, each of at most `most` days."""
    rows: list[list[str]] = []
    for day in days:
        is_next = rows and date.fromisoformat(day) - date.fromisoformat(rows[-1][-1]) == timedelta(days=1)
        if is_next and len(rows[-1]) != most:
            rows[-1].append(day)
        else:
            rows.append([day])
    return [tuple(row) for row in rows]
