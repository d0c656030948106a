"""What a day of a table looks like beside the days before it: rows, missing values, categories.

What each value must be stays out, see `ml_assets.contracts`: a day can keep its contract and still be odd.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from ml_assets.contracts.checking import Finding, Report
from ml_assets.contracts.table import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from ml_assets.contracts.table import TableContract

Measure = Literal["row_count", "null_share", "category_share"]

_ROWS: Final = "__rows"  # stands beside the table's own columns, none of which is called so
TOP_SHARE: Final = 0.01  # a category with a smaller share of the days before counts among the others
RULES: Final[Mapping[Measure, Rule]] = {
    "row_count": Rule("rows are as many as on the days before", "expectation"),
    "null_share": Rule("values are missing as often as on the days before", "expectation"),
    "category_share": Rule("categories are as frequent as on the days before", "expectation"),
}
TOLD: Final = 10  # surprises of a kind that a message lists
NOISE: Final = 4.0  # standard errors; of ten thousand figures that stay as they were, less than one is further off
LEAST: Final = 0.03  # a share that moves by less is no news, however steady it was


@dataclass(frozen=True)
class Surprise:
    """One figure of one day that lies outside of what the days before let expect."""

    measure: Measure
    day: date
    column: str | None
    category: str | None
    got: float
    low: float
    high: float
    sentence: str


def surprises(
    rows: pl.LazyFrame | pl.DataFrame,
    days: Sequence[date],
    *,
    before: Sequence[date],
    columns: Sequence[str],
    categorical: Sequence[str],
    past_days: int = 28,
    minimum_days: int = 7,
    margin: float = 0.5,
    day: str = "day",
) -> tuple[Surprise, ...]:
    """Return which figures of which days lie outside the range of the days before, by day.

    Looked at are the number of rows, the share of missing values in each column, and, of the values that are there,
    the share of each category. A day is held against those of the `past_days` calendar days before it that there are.
    Their range is widened to both sides by `margin` times its own width, and by what chance alone moves a figure of so
    many rows (`NOISE` standard errors: of a Poisson count, of a binomial share); a share by at least `LEAST`.
    A surprise on one day widens the range of the days after it: what stays so is told once, not for ever.

    Args:
        rows: the days asked for and the days before them.
        days: which days to judge.
        before: other days of the table; on one that has no rows here, there were none.
        columns: whose missing values to count.
        categorical: whose categories to count.
        past_days: how far back to look.
        minimum_days: with fewer days to compare with, a day is not judged.
        margin: how far out of the range a figure may lie, as a share of the range's width.
        day: the column with the day of a row.
    """
    known = _days({*days, *before})
    windows = _windows(days, known, past_days=past_days, minimum_days=minimum_days)
    if windows.is_empty():
        return ()
    lazy = rows.lazy().rename({day: "day"}).filter(pl.col("day").is_in(windows["day"].unique().implode()))
    counted = list(dict.fromkeys([*columns, *categorical]))
    found, *categories = pl.collect_all(
        [
            lazy.group_by("day").agg(pl.len().alias(_ROWS), *(pl.col(name).null_count() for name in counted)),
            *(_category_counts(lazy, name) for name in categorical),
        ]
    )
    counts = known.join(found, on="day", how="left").with_columns(pl.exclude("day").fill_null(0))
    odd = [*_odd_row_counts(windows, counts, margin), *_odd_null_shares(windows, counts, columns, margin)]
    for name, rows_of in zip(categorical, categories, strict=True):
        sizes = counts.select("day", of=pl.col(_ROWS) - pl.col(name)).filter(pl.col("of") > 0)
        odd += _odd_category_shares(windows.join(sizes, on="day"), rows_of, name, margin)
    return tuple(sorted(odd, key=lambda it: it.day))


def days_not_judged(
    days: Sequence[date], *, before: Sequence[date], past_days: int = 28, minimum_days: int = 7
) -> tuple[date, ...]:
    """Return the days that are not judged, for too few days to compare them with; arguments as of `surprises`."""
    windows = _windows(days, _days({*days, *before}), past_days=past_days, minimum_days=minimum_days)
    return tuple(sorted(set(days) - set(windows["judged"])))


def _days(days: set[date]) -> pl.DataFrame:
    return pl.DataFrame({"day": sorted(days)}, schema={"day": pl.Date})


def rules_of(*, is_blocking: bool) -> tuple[Rule, ...]:
    """Return what is expected of a day, as rules."""
    return tuple(replace(rule, is_blocking=is_blocking) for rule in RULES.values())


def report_of(
    found: Sequence[Surprise],
    rows_by_day: Mapping[date, int],
    contract: TableContract,
    *,
    is_blocking: bool,
    not_judged: Sequence[date] = (),
) -> Report:
    """Return surprises as the findings of their rules; all rows of a day that surprises count as breaking the rule.

    Args:
        found: as `surprises` gives them.
        rows_by_day: how many rows each day has.
        contract: the table's.
        is_blocking: whether a day that surprises must not be published.
        not_judged: as `days_not_judged` gives them.
    """
    findings = []
    unjudged = {str(day): "too few days before it to compare with" for day in not_judged}
    for measure, rule in RULES.items():
        odd = [it for it in found if it.measure == measure]
        days = {str(day): rows_by_day.get(day, 0) for day in sorted({it.day for it in odd})}
        told = [it.sentence for it in odd[:TOLD]]
        if len(odd) > TOLD:
            told.append(f"{len(odd) - TOLD} more like these on {len(days)} days in all.")
        total = sum(rows_by_day.values())
        judged = replace(rule, is_blocking=is_blocking)
        broken = sum(days.values())
        findings.append(Finding(judged, total, broken, days, detail="\n".join(told), not_judged=unjudged))
    return Report(contract, tuple(findings))


def _windows(days: Sequence[date], known: pl.DataFrame, *, past_days: int, minimum_days: int) -> pl.DataFrame:
    """Return each day to judge (`judged`) beside itself and each of the days that it is held against (`day`)."""
    judged = pl.DataFrame({"judged": sorted(set(days))}, schema={"judged": pl.Date})
    first = pl.col("judged") - timedelta(days=past_days)
    windows = judged.join_where(known, pl.col("day") <= pl.col("judged"), pl.col("day") >= first)
    return windows.filter(pl.len().over("judged") > minimum_days)


def _category_counts(lazy: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return how many rows of each day have each category, without those that are small on every day."""
    rows = (
        lazy.select("day", category=pl.col(name).cast(pl.String)).drop_nulls().group_by("day", "category").len("rows")
    )
    return rows.filter((pl.col("rows") / pl.col("rows").sum().over("day")).max().over("category") >= TOP_SHARE)


def _odd_row_counts(windows: pl.DataFrame, counts: pl.DataFrame, margin: float) -> Iterator[Surprise]:
    past = _beside_the_past(windows.join(counts.select("day", rows=_ROWS, figure=_ROWS), on="day"))
    width = margin * (pl.col("highest") - pl.col("lowest"))
    judged = past.with_columns(
        low=(pl.col("lowest") - width - NOISE * pl.col("lowest").sqrt()).clip(0),
        high=pl.col("highest") + width + NOISE * pl.col("highest").sqrt(),
    )
    for row in _outside(judged):
        sentence = (
            f"{row['judged']} has {row['got']} rows; expected {row['low']:.0f} to {row['high']:.0f}, since the "
            f"{row['days']} days before it had {row['lowest']} to {row['highest']}."
        )
        yield Surprise("row_count", row["judged"], None, None, row["got"], row["low"], row["high"], sentence)


def _odd_null_shares(
    windows: pl.DataFrame, counts: pl.DataFrame, columns: Sequence[str], margin: float
) -> Iterator[Surprise]:
    shares = (
        counts.filter(pl.col(_ROWS) > 0)  # a day without rows has no shares
        .unpivot(columns, index=["day", _ROWS], variable_name="__column", value_name="__nulls")
        .select("day", column="__column", rows=_ROWS, figure=pl.col("__nulls") / pl.col(_ROWS))
    )
    judged = _with_limits(_beside_the_past(windows.join(shares, on="day"), "column"), margin)
    for row in _outside(judged):
        sentence = f"column '{row['column']}' is missing in {row['got']:.1%} of {_in_rows(row)}"
        yield Surprise(
            "null_share", row["judged"], row["column"], None, row["got"], row["low"], row["high"], sentence
        )  # fmt: skip


def _odd_category_shares(windows: pl.DataFrame, rows_of: pl.DataFrame, name: str, margin: float) -> Iterator[Surprise]:
    """Yield odd shares of categories.

    Args:
        windows: with `of`, how many values there are on `day`.
        rows_of: rows by day and category.
        name: the column.
        margin: how far out of the range a share may lie.
    """
    past = windows.filter(pl.col("day") < pl.col("judged"))
    whole = past.group_by("judged").agg(pl.col("of").sum())
    tops = (
        past.drop("of")
        .join(rows_of, on="day")
        .group_by("judged", "category")
        .agg(pl.col("rows").sum())
        .join(whole, on="judged")
        .filter(pl.col("rows") / pl.col("of") >= TOP_SHARE)
        .select("judged", "category")
    )
    shares = (
        windows.join(tops, on="judged")
        .join(rows_of, on=["day", "category"], how="left")
        .select("judged", "day", "category", rows="of", figure=pl.col("rows").fill_null(0) / pl.col("of"))
    )
    others = shares.group_by("judged", "day", "rows").agg(
        category=pl.lit(None, dtype=pl.String), figure=(1 - pl.col("figure").sum()).clip(0)
    )
    judged = _beside_the_past(pl.concat([shares, others.select(shares.columns)]), "category")
    for row in _outside(_with_limits(judged, margin)):
        what = "all others" if row["category"] is None else f"'{row['category']}'"
        sentence = f"column '{name}' is {what} in {row['got']:.1%} of {_in_rows(row)}"
        yield Surprise(
            "category_share", row["judged"], name, row["category"], row["got"], row["low"], row["high"], sentence
        )


def _beside_the_past(figures: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return each judged day's figure (`got`) and rows beside the range of the same figure on the days before it."""
    is_past = pl.col("day") < pl.col("judged")
    past = pl.col("figure").filter(is_past)
    return (
        figures.group_by("judged", *by, maintain_order=True)
        .agg(
            days=is_past.sum(),
            lowest=past.min(),
            highest=past.max(),
            got=pl.col("figure").filter(~is_past).first(),
            rows=pl.col("rows").filter(~is_past).first(),
        )
        .drop_nulls(["got", "lowest"])
    )


def _with_limits(judged: pl.DataFrame, margin: float) -> pl.DataFrame:
    """Add how low and how high a share may be."""

    def noise(share: str) -> pl.Expr:
        smoothed = (pl.col(share) * pl.col("rows") + 1) / (pl.col("rows") + 2)  # else what never was may never be
        return NOISE * (smoothed * (1 - smoothed) / pl.col("rows")).sqrt()

    width = margin * (pl.col("highest") - pl.col("lowest"))
    return judged.with_columns(
        low=(pl.col("lowest") - pl.max_horizontal(width + noise("lowest"), LEAST)).clip(0),
        high=(pl.col("highest") + pl.max_horizontal(width + noise("highest"), LEAST)).clip(None, 1),
    )


def _outside(judged: pl.DataFrame) -> Iterator[dict[str, Any]]:
    outside = (pl.col("got") < pl.col("low")) | (pl.col("got") > pl.col("high"))
    by = [name for name in ("judged", "column", "category") if name in judged.columns]
    return judged.filter(outside).sort(by, nulls_last=True).iter_rows(named=True)


def _in_rows(row: dict[str, Any]) -> str:
    return (
        f"{row['rows']} rows on {row['judged']}; expected {row['low']:.1%} to {row['high']:.1%}, since it was "
        f"{row['lowest']:.1%} to {row['highest']:.1%} on the {row['days']} days before."
    )
