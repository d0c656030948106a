"""Rows on the way from the sources to features and labels, from manifests alone."""

from ml_assets.lake.manifest import EXCLUDED_ROWS, ROWS_READ
from ml_assets.lake.store import Lake
from ml_assets.provenance.rows import rows_behind
from tests.builders import frame, put

FIRST, SECOND = "2013-01-01", "2013-01-02"


def test_tables_are_followed_to_their_sources_with_rows_and_reasons(lake: Lake) -> None:
    planes = put(lake, frame(1, 2), asset="raw/planes").ref
    for day, rows in ((FIRST, 3), (SECOND, 2)):
        outside = {"before the first declared day 2013-01-01": 7}
        raw = put(
            lake, frame(*range(rows)), asset="raw/flights", partition=day, parameters={EXCLUDED_ROWS: outside}
        ).ref
        put(lake, frame(9), asset="raw/flights__quarantine", partition=day)
        table = put(
            lake, frame(*range(rows - 1)), asset="tables/flights", partition=day, inputs=(planes, raw),
            parameters={ROWS_READ: {"raw/flights": rows, "raw/planes": 2}},
        ).ref  # fmt: skip
        put(lake, frame(*range(rows - 1)), asset="shop/features", partition=day, inputs=(table,))
        put(
            lake, frame(0), asset="shop/labels", partition=day, inputs=(table,), parameters={EXCLUDED_ROWS: {"late": 1}}
        )

    behind = rows_behind(lake, ["shop/features", "shop/labels"], [FIRST, SECOND])

    tables = {"raw/flights": 5, "tables/flights": 3}
    assert [tables | {"shop/features": 3}, tables | {"shop/labels": 2}] == behind.chains
    assert {
        "raw/flights": {"before the first declared day 2013-01-01": 7, "quarantined": 2}, "shop/labels": {"late": 2}
    } == behind.excluded_rows  # fmt: skip
    assert {} == behind.empty
    assert ["raw/flights", "tables/flights", "shop/features"] == [*behind.chains[0]]


def test_days_of_a_source_without_rows_are_listed(lake: Lake) -> None:
    for day, rows in ((FIRST, 3), (SECOND, 0)):
        raw = put(lake, frame(*range(rows)), asset="raw/orders", partition=day).ref
        table = put(lake, frame(*range(rows)), asset="tables/orders", partition=day, inputs=(raw,)).ref
        put(lake, frame(*range(rows)), asset="shop/features", partition=day, inputs=(table,))

    assert {"raw/orders": [SECOND]} == rows_behind(lake, ["shop/features"], [FIRST, SECOND]).empty
    assert {} == rows_behind(lake, ["shop/features"], [FIRST]).empty
