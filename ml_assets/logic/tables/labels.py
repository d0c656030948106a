"""Select labels by the day on which they became known.

Not here: what a label means (see the outcome table's dbt model).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.table import redacted
from ml_assets.contracts.words import counted
from ml_assets.logic.tables.features import is_naive
from ml_assets.logic.tables.keys import newest_known, repeated_keys

EVENT_DAY: Final = "event_day"


def select_labels(
    outcomes: pl.DataFrame | pl.LazyFrame,
    model: ModelColumns,
    *,
    span: tuple[str, str],
    reason: str | None = None,
) -> pl.DataFrame:
    """Return the outcomes that became known within some periods, each on the day of its known time.

    `span` has the keys of the first and the last period.

    An outcome that never gets a label (a null target with a known time) is included, so that it can be counted. An
    outcome without a known time is excluded. Of a corrected outcome, each day has the newest version known on that day,
    so a day's labels do not depend on the other requested days. Only the given outcomes are used: a correction that
    becomes known after the days that were read is ignored. `outcomes` has one row per version of an outcome. If the
    model declares the positive value, the target becomes Boolean: whether it is that value.

    Returns:
        `day`, `hour` if by the hour, key, `event_day`, known time, target, weight and `reason` (if declared),
        sorted by known time and key.

    Raises:
        ContractError: Columns are missing or have the wrong type; all are listed.
        DataError: A key is null, two versions of it have the same known time, a label has no known time or no valid
            weight, or the days are in the wrong order.
    """
    key, known_time, target = model.key, model.known_time, model.target
    first, last = span
    if last < first:
        raise DataError(f"labels were requested from {first} to {last}; expected the first day first. Swap them.")
    lazy, calendar = outcomes.lazy(), model.calendar
    own = calendar.columns_of(pl.col(known_time))
    named = [*key, DAY, known_time, *model.label_values, *([reason] if reason else [])]
    _check_columns(lazy.collect_schema(), named, known_time)
    selected, timeless = pl.collect_all(
        [
            lazy.filter(calendar.is_between(own[calendar.column], first, last)).select(
                *(column.alias(f"__known_{name}") for name, column in own.items()),
                *dict.fromkeys(key),
                pl.col(DAY).alias(EVENT_DAY),
                known_time,
                pl.col(target) if model.positive is None else (pl.col(target) == pl.lit(model.positive)).alias(target),
                *([] if model.weight is None else [pl.col(model.weight).cast(pl.Float64)]),
                *([pl.col(reason).cast(pl.String).alias("reason")] if reason else []),
            ),
            lazy.filter(pl.col(known_time).is_null() & pl.col(target).is_not_null()).select(pl.len()),
        ]
    )
    problems = [
        f"column '{name}' is null in {count} of {selected.height} rows; expected no null. Fix the outcome table."
        for name, count in selected.select(pl.col(list(key)).null_count()).to_dicts()[0].items()
        if count
    ]
    if timeless.item():
        problems.append(
            f"{timeless.item()} labels have no '{known_time}'; a label whose known time is null may come from the "
            "future. Fill it in the outcome table, or make the label null."
        )
    fix = "Keep one outcome per key and known time in the outcome table."
    problems += repeated_keys(selected, model.label_key, fix=fix, personal=model.personal)
    problems += weight_problems(selected, model)
    if problems:
        raise DataError(f"the labels known from {first} to {last}: " + " ".join(problems))
    names = {f"__known_{name}": name for name in own}
    newest = newest_known(selected, [*names, *key], known_time)
    return newest.rename(names).sort([known_time, *key])


def weight_problems(labels: pl.DataFrame, model: ModelColumns) -> list[str]:
    """Return why the weights of labels are not valid; a row without a label needs none."""
    if model.weight is None:
        return []
    given = labels.filter(pl.col(model.target).is_not_null()).get_column(model.weight).cast(pl.Float64)
    wrong = given.filter(~(given.is_finite() & (given >= 0)).fill_null(value=False))
    if not wrong.len():
        return []
    found = dict.fromkeys(str(redacted(model.weight, it, model.personal)) for it in wrong.unique().sort().head(3))
    problem = (
        f"weight '{model.weight}' is not a finite number of 0 or more in {counted(wrong.len(), 'row')} with a label, "
        f"for instance {', '.join(found)}. Correct it in the label table; a row with weight 0 is left out."
    )
    return [problem]


def labels_left_out(
    outcomes: pl.DataFrame,
    model: ModelColumns,
    *,
    span: tuple[str, str],
    maturity_days: int,
) -> dict[str, dict[str, int]]:
    """Return how many outcomes are not among the labels, by day or period and reason; those without any are absent.

    An outcome that is never known, or too late, counts on its own day. One that was corrected on the day on which it
    became known counts on that day. What becomes known more than `maturity_days` later is never a label.
    """
    calendar = model.calendar
    period, known_on = calendar.column, calendar.columns_of(pl.col(model.known_time))
    marked = outcomes.with_columns(__known_on=known_on[DAY], __known_in=known_on[period])
    never = pl.col("__known_on").is_null()
    late = pl.col("__known_on") > pl.col(DAY) + pl.duration(days=maturity_days)
    inside = marked.filter(calendar.is_between(pl.col(period), *span))
    own = inside.group_by(period).agg(never.sum().alias("never"), late.sum())
    known = marked.filter(calendar.is_between(pl.col("__known_in"), *span)).group_by("__known_in")
    again = known.agg((pl.len() - pl.struct(list(model.key)).n_unique()).alias("again"))
    reasons = {
        "not known yet": own.select(period, "never"),
        f"known more than {maturity_days} days later": own.select(period, "__known_on"),
        "corrected on the same day": again,
    }
    found: dict[str, dict[str, int]] = {}
    for reason, counts in reasons.items():
        for begin, rows in counts.iter_rows():
            if rows:
                of_period = found.setdefault(calendar.key_of(begin), {})
                of_period[reason] = of_period.get(reason, 0) + rows
    return found


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
