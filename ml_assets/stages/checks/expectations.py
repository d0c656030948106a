"""Checks of a table by day against its earlier days in the lake.

Not here: what is compared, and when it is a surprise (see `ml_assets.logic.tables.expectations`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import polars as pl

from ml_assets.contracts.checking import Report
from ml_assets.contracts.days import DAY
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.expectations import ExpectationsSettings
from ml_assets.lake.days import days_between
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.expectations import Surprise, days_not_judged, report_of, rules_of, surprises
from ml_assets.models.plan import day_of
from ml_assets.stages.checks.contract_rules import rule_specs


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
) -> Report:
    """Return the surprises in days that are about to be published.

    Earlier days count if they have the same columns. They are not recorded as inputs.

    Args:
        lake: contains the earlier days.
        asset: the asset of the days.
        rows: all rows of the run.
        days: its partition keys.
        settings: the declared settings.
        contract: the contract of the table; keys and times are not compared.
    """
    if not settings.days:
        return Report(contract, ())
    judged = [day_of(day) for day in days]
    first = min(judged)
    keys = [str(day) for day in days_between(first - timedelta(days=settings.days), first - timedelta(days=1))]
    past = artifacts_with_same_columns(lake, lake.newest(asset.to_user_string(), keys).values(), rows)
    counted = [column for column in contract.columns if column.name != DAY and column.role in _COUNTED]
    before = [day_of(ref.partition or "") for ref in past]
    found = surprises(
        pl.concat([lake.scan(past), rows.lazy()]) if past else rows,
        judged,
        before=before,
        columns=[column.name for column in counted],
        categorical=[column.name for column in counted if column.is_categorical],
        past_days=settings.days,
        min_days=settings.min_days,
        margin=settings.margin,
    )
    found = tuple(_shown(it, contract) for it in found)
    by_day = dict(rows.group_by(DAY).len().iter_rows())
    skipped = days_not_judged(judged, before=before, past_days=settings.days, min_days=settings.min_days)
    return report_of(found, by_day, contract, is_blocking=settings.is_blocking, not_judged=skipped)


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
