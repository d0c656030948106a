"""Compare a day of a table with the days before: number of rows, missing values, categories.

Not here: the rules of single values (see `ml_assets.contracts`). A day can satisfy its contract and still be unusual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, Literal

import polars as pl

from ml_assets.contracts.checking import Report, RuleResult
from ml_assets.contracts.table import Rule, TableContract

Measure = Literal["row_count", "null_share", "category_share"]

_ROWS: Final = "__rows"  # no column of a table has this name
TOP_SHARE: Final = 0.01  # a category with a smaller share on the days before is pooled with the others
RULES: Final[Mapping[Measure, Rule]] = {
    "row_count": Rule("rows are as many as on the days before", "expectation"),
    "null_share": Rule("values are missing as often as on the days before", "expectation"),
    "category_share": Rule("categories are as frequent as on the days before", "expectation"),
}
LISTED: Final = 10  # surprises of a kind that a message lists
NOISE: Final = 4.0  # standard errors; of ten thousand unchanged figures, less than one is further off
LEAST: Final = 0.03  # a smaller change of a share is never a surprise, however steady the share was


@dataclass(frozen=True)
class Surprise:
    """One figure of a day that is outside the range of the days before."""

    measure: Measure
    day: date
    column: str | None
    category: str | None
    got: float
    low: float
    high: float
    sentence: str


@dataclass(frozen=True)
class Past:
    """What a day is compared with: the other days of its table, as far as it reaches.

    Attributes:
        days: the other days; one without rows had none.
        reach: the number of calendar days before a day that it is compared with.
        min_days: with fewer of them in the table, a day is not judged.
        margin: by which share of its width the range is widened on both sides.
    """

    days: Sequence[date]
    reach: int = 28
    min_days: int = 7
    margin: float = 0.5

    def windows(self, judged: Sequence[date]) -> pl.DataFrame:
        """Return each day to judge (`judged`) with itself and each of the days that it is compared with (`day`)."""
        days = pl.DataFrame({"judged": sorted(set(judged))}, schema={"judged": pl.Date})
        first = pl.col("judged") - timedelta(days=self.reach)
        windows = days.join_where(self.known(judged), pl.col("day") <= pl.col("judged"), pl.col("day") >= first)
        return windows.filter(pl.len().over("judged") > self.min_days)

    def known(self, judged: Sequence[date]) -> pl.DataFrame:
        """Return all days of the table."""
        return pl.DataFrame({"day": sorted({*judged, *self.days})}, schema={"day": pl.Date})

    def not_judged(self, days: Sequence[date]) -> tuple[date, ...]:
        """Return the days that have too few days to compare with."""
        return tuple(sorted(set(days) - set(self.windows(days)["judged"])))


def surprises(
    rows: pl.LazyFrame | pl.DataFrame,
    days: Sequence[date],
    past: Past,
    *,
    columns: Sequence[str],
    categorical: Sequence[str],
) -> tuple[Surprise, ...]:
    """Return the figures of each day that are outside the range of the days before, by day.

    Compared are the number of rows, the share of missing values in each column, and the share of each category among
    the values that are not missing. The range of the days before is widened on both sides by the margin and by `NOISE`
    standard errors (of a Poisson count or of a binomial share); for a share by at least `LEAST`. A surprise widens the
    range of the days after it, so a lasting change is reported once.
    """
    windows, margin = past.windows(days), past.margin
    if windows.is_empty():
        return ()
    lazy = rows.lazy().filter(pl.col("day").is_in(windows["day"].unique().implode()))
    counted = list(dict.fromkeys([*columns, *categorical]))
    found, *categories = pl.collect_all(
        [
            lazy.group_by("day").agg(pl.len().alias(_ROWS), *(pl.col(name).null_count() for name in counted)),
            *(_category_counts(lazy, name) for name in categorical),
        ]
    )
    counts = past.known(days).join(found, on="day", how="left").with_columns(pl.exclude("day").fill_null(0))
    odd = [*_odd_row_counts(windows, counts, margin), *_odd_null_shares(windows, counts, columns, margin)]
    for name, rows_of in zip(categorical, categories, strict=True):
        sizes = counts.select("day", of=pl.col(_ROWS) - pl.col(name)).filter(pl.col("of") > 0)
        odd += _odd_category_shares(windows.join(sizes, on="day"), rows_of, name, margin)
    return tuple(sorted(odd, key=lambda it: it.day))


def rules_of(*, is_blocking: bool) -> tuple[Rule, ...]:
    """Return the expectations of a day, as rules."""
    return tuple(replace(rule, is_blocking=is_blocking) for rule in RULES.values())


def report_of(
    found: Sequence[Surprise],
    rows_by_day: Mapping[date, int],
    contract: TableContract,
    *,
    is_blocking: bool,
    not_judged: Mapping[date, str] | None = None,
) -> Report:
    """Return surprises as findings of their rules; all rows of a day with a surprise count as breaking the rule."""
    findings = []
    unjudged = {str(day): why for day, why in sorted((not_judged or {}).items())}
    for measure, rule in RULES.items():
        odd = [it for it in found if it.measure == measure]
        days = {str(day): rows_by_day.get(day, 0) for day in sorted({it.day for it in odd})}
        listed = [it.sentence for it in odd[:LISTED]]
        if len(odd) > LISTED:
            listed.append(f"{len(odd) - LISTED} more like these, on {len(days)} days in total.")
        total = sum(rows_by_day.values())
        judged = replace(rule, is_blocking=is_blocking)
        broken = sum(days.values())
        findings.append(RuleResult(judged, total, broken, days, detail="\n".join(listed), not_judged=unjudged))
    return Report(contract, tuple(findings))


def _category_counts(lazy: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return the number of rows of each category by day, without categories that are rare on every day."""
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
            f"{row['judged']} has {row['got']} rows; expected {row['low']:.0f} to {row['high']:.0f}, because the "
            f"{row['days']} days before had {row['lowest']} to {row['highest']}."
        )
        yield _surprise("row_count", row, None, None, sentence)


def _odd_null_shares(
    windows: pl.DataFrame, counts: pl.DataFrame, columns: Sequence[str], margin: float
) -> Iterator[Surprise]:
    shares = (
        counts.filter(pl.col(_ROWS) > 0)  # shares are not defined on a day without rows
        .unpivot(columns, index=["day", _ROWS], variable_name="__column", value_name="__nulls")
        .select("day", column="__column", rows=_ROWS, figure=pl.col("__nulls") / pl.col(_ROWS))
    )
    judged = _with_limits(_beside_the_past(windows.join(shares, on="day"), "column"), margin)
    for row in _outside(judged):
        sentence = f"column '{row['column']}' is missing in {row['got']:.1%} of {_in_rows(row)}"
        yield _surprise("null_share", row, row["column"], None, sentence)


def _odd_category_shares(windows: pl.DataFrame, rows_of: pl.DataFrame, name: str, margin: float) -> Iterator[Surprise]:
    """Yield unusual shares of categories."""
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
        yield _surprise("category_share", row, name, row["category"], sentence)


def _surprise(
    measure: Measure, row: Mapping[str, Any], column: str | None, category: str | None, sentence: str
) -> Surprise:
    return Surprise(measure, row["judged"], column, category, row["got"], row["low"], row["high"], sentence)


def _beside_the_past(figures: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return each judged day's figure (`got`) and rows, with the range of the same figure on the days before."""
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
    """Add the lower and upper limit of a share."""

    def noise(share: str) -> pl.Expr:
        smoothed = (pl.col(share) * pl.col("rows") + 1) / (pl.col("rows") + 2)  # so that a share of 0 or 1 has noise
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
        f"{row['rows']} rows on {row['judged']}; expected {row['low']:.1%} to {row['high']:.1%}, because it was "
        f"{row['lowest']:.1%} to {row['highest']:.1%} on the {row['days']} days before."
    )
