"""Labels by the day they became known: who, what came true, and when that could first be known.

What a label means stays out; that is the outcome table's dbt model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

import polars as pl

from ml_assets.contracts.days import day_of_moment
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.tables.features import is_naive, repeated_keys

DAY: Final = "day"
EVENT_DAY: Final = "event_day"


def select_labels(
    outcomes: pl.DataFrame | pl.LazyFrame,
    *,
    key: Sequence[str],
    known_time: str,
    target: str,
    days: tuple[date, date],
    reason: str | None = None,
    timezone: str = "UTC",
    personal: Collection[str] = (),
) -> pl.DataFrame:
    """Return the outcomes that became known within some days, each under the day of its known time.

    An outcome without a label by nature (a null target with a known time) is kept, so that it can be counted. One
    without a known time is not known on any day and is left out. Of an outcome that was corrected, each day has the
    newest version known on it, so that a day's labels do not depend on the days asked for with it. Only the outcomes
    given are looked at: a correction that comes later than their days reach is lost.

    Args:
        outcomes: One row a version of an outcome: key, `day` (its own), known time, target, reason.
        key: What identifies a prediction.
        known_time: When the outcome could first be known, UTC without a zone.
        target: The label; null where there is none.
        days: First and last day of becoming known, both included.
        reason: The column that says why there is no label.
        timezone: Where a day begins and ends.
        personal: Columns whose values no message shows.

    Returns:
        `day`, key, `event_day`, known time, target, `reason` (where one is declared), sorted by known time and key.

    Raises:
        ContractError: Missing or mistyped columns; all are listed.
        DataError: A key that is null, two versions of it known at the same time, a label without a known time, days
            in the wrong order.
    """
    first, last = days
    if last < first:
        raise DataError(f"labels were asked for from {first} to {last}; expected the first day first. Swap them.")
    lazy = outcomes.lazy()
    _check_columns(lazy.collect_schema(), [*key, DAY, known_time, target, *([reason] if reason else [])], known_time)
    known_on = day_of_moment(pl.col(known_time), timezone)
    selected, timeless = pl.collect_all(
        [
            lazy.filter(known_on.is_between(first, last)).select(
                known_on.alias("__known_on"),
                *dict.fromkeys(key),
                pl.col(DAY).alias(EVENT_DAY),
                known_time,
                target,
                *([pl.col(reason).cast(pl.String).alias("reason")] if reason else []),
            ),
            lazy.filter(pl.col(known_time).is_null() & pl.col(target).is_not_null()).select(pl.len()),
        ]
    )
    problems = [
        f"column '{name}' is null in {count} of {selected.height} rows; expected none. Mend the outcome table."
        for name, count in selected.select(pl.col(list(key)).null_count()).to_dicts()[0].items()
        if count
    ]
    if timeless.item():
        problems.append(
            f"{timeless.item()} labels have no '{known_time}'; a label whose known time is null may come from the "
            "future. Fill it in the outcome table, or make the label null."
        )
    fix = "Keep one outcome a key and known time in the outcome table."
    problems += repeated_keys(selected, list(dict.fromkeys([*key, known_time])), fix=fix, personal=personal)
    if problems:
        raise DataError(f"the labels known from {first} to {last}: " + " ".join(problems))
    newest = newest_known(selected, ["__known_on", *key], known_time)
    return newest.rename({"__known_on": DAY}).sort([known_time, *key])


def labels_left_out(
    outcomes: pl.DataFrame,
    *,
    key: Sequence[str],
    known_time: str,
    days: tuple[date, date],
    wait_days: int,
    timezone: str = "UTC",
) -> dict[str, dict[str, int]]:
    """Return how many outcomes are not among the labels, by day and reason; days without such outcomes are absent.

    An outcome that is known never, or too late, counts on its own day; one that was corrected within the day on which
    it became known counts on that day.

    Args:
        outcomes: As for `select_labels`.
        key: What identifies a prediction.
        known_time: When the outcome could first be known, UTC without a zone.
        days: First and last day.
        wait_days: Days before its own that a day of labels reads; what becomes known later is never a label.
        timezone: Where a day begins and ends.
    """
    marked = outcomes.with_columns(day_of_moment(pl.col(known_time), timezone).alias("__known_on"))
    never = pl.col("__known_on").is_null()
    late = pl.col("__known_on") > pl.col(DAY) + pl.duration(days=wait_days)
    own = marked.filter(pl.col(DAY).is_between(*days)).group_by(DAY).agg(never.sum().alias("never"), late.sum())
    known = marked.filter(pl.col("__known_on").is_between(*days)).group_by("__known_on")
    again = known.agg((pl.len() - pl.struct(list(key)).n_unique()).alias("again"))
    reasons = {
        "known at no time yet": own.select(DAY, "never"),
        f"known more than {wait_days} days later": own.select(DAY, "__known_on"),
        "corrected on the same day": again,
    }
    found: dict[str, dict[str, int]] = {}
    for reason, counts in reasons.items():
        for day, rows in counts.iter_rows():
            if rows:
                found.setdefault(str(day), {})[reason] = rows
    return found


def newest_known(labels: pl.DataFrame, key: Sequence[str], known_time: str) -> pl.DataFrame:
    """Return one row a key: the version that became known last; one without a known time counts as the oldest."""
    ordered = labels.sort(known_time, nulls_last=False, maintain_order=True)
    return ordered.unique(list(dict.fromkeys(key)), keep="last", maintain_order=True)


def _check_columns(schema: pl.Schema, names: Sequence[str], known_time: str) -> None:
    problems = [
        f"column '{name}' of the outcomes is missing. Rebuild the outcome table, or correct the declaration."
        for name in dict.fromkeys(names)
        if name not in schema
    ]
    dtype = schema.get(known_time)
    if dtype is not None and not is_naive(dtype):
        problems.append(
            f"time '{known_time}' of the outcomes is {dtype}; expected a Datetime in UTC without a zone. "
            "Cast it in the outcome table."
        )
    if problems:
        raise ContractError("\n".join(problems))
