"""Checks of a table by day against its earlier days in the lake.

Not here: what is compared, and when it is a surprise (see `ml_assets.logic.tables.expectations`).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Final

import dagster as dg
import polars as pl

from ml_assets.contracts.checking import Report, RuleResult
from ml_assets.contracts.days import DAY
from ml_assets.contracts.periods import BY_DAY, BY_HOUR, DAILY, Calendar
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.expectations import ExpectationsSettings
from ml_assets.lake.days import days_between
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.expectations import Past, Surprise, report_of, rules_of, surprises
from ml_assets.stages.checks.contract_rules import rule_specs

_OPEN: Final = "not all hours of its day were there when it was checked"
"""Why a day is not judged. Two runs at the same time may each miss the hours of the other."""
_MIXED: Final = "the hours of its day have different columns"
"""Likewise."""


def expectation_specs(settings: ExpectationsSettings, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a table; none if no days are declared."""
    return rule_specs(rules_of(is_blocking=settings.is_blocking), asset) if settings.days else []


def compare_with_earlier_days(
    lake: Lake,
    asset: dg.AssetKey,
    rows: pl.DataFrame,
    days: Sequence[str],
    *,
    settings: ExpectationsSettings,
    contract: TableContract,
    calendar: Calendar = DAILY,
) -> Report:
    """Return the surprises in days that are about to be published.

    Earlier days count if they have the same columns. They are not recorded as inputs. Single days are compared whatever
    the grain; the findings name their periods.

    Args:
        lake: contains the earlier days.
        asset: the asset of the days.
        rows: all rows of the run.
        days: its partition keys.
        settings: the declared settings.
        contract: the contract of the table; keys and times are not compared.
        calendar: of the partitions.
    """
    if not settings.days:
        return Report(contract, ())
    beside, unjudged = _other_hours(lake, asset, rows, days, calendar)
    judged = sorted({day for key in days for day in _days_of(key, calendar)} - unjudged.keys())
    if not judged:
        report = report_of((), {}, contract, is_blocking=settings.is_blocking, not_judged=unjudged)
        return replace(report, findings=tuple(_by_period(it, days, calendar) for it in report.findings))
    rows = pl.concat([rows, *lake.get_each(beside, pl.DataFrame)]).filter(pl.col(DAY).is_in(judged))
    first = min(judged)
    begin, end = first - timedelta(days=settings.days), first - timedelta(days=1)
    keys = calendar.keys(begin, end)
    past = artifacts_with_same_columns(lake, lake.newest(asset.to_user_string(), keys).values(), rows)
    whole = {*_complete({ref.partition or "" for ref in past}, calendar)}
    past = [ref for ref in past if not whole.isdisjoint(_days_of(ref.partition or "", calendar))]
    counted = [column for column in contract.columns if column.name != DAY and column.role in _COUNTED]
    before = [day for ref in past for day in _days_of(ref.partition or "", calendar)]
    compared = Past(before, reach=settings.days, min_days=settings.min_days, margin=settings.margin)
    found = surprises(
        pl.concat([lake.scan(past), rows.lazy()]) if past else rows,
        judged,
        compared,
        columns=[column.name for column in counted],
        categorical=[column.name for column in counted if column.is_categorical],
    )
    found = tuple(_shown(it, contract) for it in found)
    by_day = dict(rows.group_by(DAY).len().iter_rows())
    skipped = dict.fromkeys(compared.not_judged(judged), "too few earlier days to compare with")
    skipped |= unjudged
    report = report_of(found, by_day, contract, is_blocking=settings.is_blocking, not_judged=skipped)
    return replace(report, findings=tuple(_by_period(it, days, calendar) for it in report.findings))


def _days_of(key: str, calendar: Calendar) -> list[date]:
    """Return the days of a period."""
    return days_between(calendar.first_day(key), calendar.last_day(key))


def _complete(keys: Collection[str], calendar: Calendar) -> list[date]:
    """Return the days of periods; by the hour, those of which all hours are among them."""
    days = sorted({day for key in keys for day in _days_of(key, calendar)})
    return [day for day in days if calendar.grain != BY_HOUR or {*keys}.issuperset(calendar.keys(day, day))]


def _other_hours(
    lake: Lake, asset: dg.AssetKey, rows: pl.DataFrame, keys: Sequence[str], calendar: Calendar
) -> tuple[list[ArtifactRef], dict[date, str]]:
    """Return the hours in the lake that complete the days of a run, and the days that are not judged, with the reason.

    A day is judged in the run that completes it, if all its hours have the same columns.
    """
    if calendar.grain != BY_HOUR:
        return [], {}
    touched = sorted({calendar.first_day(key) for key in keys})
    others = [key for day in touched for key in calendar.keys(day, day) if key not in {*keys}]
    there = lake.newest(asset.to_user_string(), others)
    same = artifacts_with_same_columns(lake, there.values(), rows)
    complete, judged = (
        _complete({*keys, *found}, calendar) for found in (there, [ref.partition or "" for ref in same])
    )
    return same, {day: _MIXED if day in complete else _OPEN for day in touched if day not in judged}


def _by_period(finding: RuleResult, keys: Sequence[str], calendar: Calendar) -> RuleResult:
    """Return a finding about days as one about the run's periods. A period is not judged if none of its days is.

    By the hour, a finding about a day is one about its last hour in the run.
    """
    if calendar.grain == BY_DAY:
        return finding
    days = {key: [*map(str, _days_of(key, calendar))] for key in keys}
    last = {day: key for key, its in days.items() for day in its}
    broken = Counter[str]()
    for day, rows in finding.partitions.items():
        broken[last[day]] += rows
    skipped = finding.not_judged
    not_judged = {key: skipped[its[-1]] for key, its in days.items() if all(day in skipped for day in its)}
    return replace(finding, partitions=broken, not_judged=not_judged)


def _shown(surprise: Surprise, contract: TableContract) -> Surprise:
    """Return a surprise without personal values."""
    category = contract.shown(surprise.column, surprise.category)
    if category == surprise.category:
        return surprise
    sentence = surprise.sentence.replace(f"'{surprise.category}'", str(category), 1)
    return replace(surprise, category=str(category), sentence=sentence)


_COUNTED = frozenset({"feature", "label", "context", None})


def artifacts_with_same_columns(lake: Lake, refs: Iterable[ArtifactRef], rows: pl.DataFrame) -> list[ArtifactRef]:
    """Return the artifacts with the same columns as some rows, in their order, so that one read covers all."""
    columns = [(name, str(dtype)) for name, dtype in rows.schema.items()]
    wanted = [*refs]
    found = [[*(manifest.columns or {}).items()] for manifest in lake.map(lake.manifest, wanted)]
    return [ref for ref, its in zip(wanted, found, strict=True) if its == columns]
