from datetime import timedelta

import polars as pl
import pytest

from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.quarantine import (
    Released,
    SetAside,
    beside,
    release,
    released_rows,
    releases,
    set_aside,
    store_rejected,
)
from ml_assets.lake.store import Lake, Origin
from tests.builders import put
from tests.publications import clock

DAY = "2024-01-01"


@pytest.fixture
def lake(folder: Lake) -> Lake:
    return folder


def broken(*numbers: int) -> pl.DataFrame:
    """Return quarantined rows: those below zero for a rule, and the others."""
    return pl.DataFrame(
        {"n": numbers, "broken_rules": [["n is at least 0"] if n < 0 else [] for n in numbers]},
        schema={"n": pl.Int64, "broken_rules": pl.List(pl.String)},
    )


def aside(lake: Lake, *numbers: int, partition: str | None = DAY) -> SetAside:
    put(lake, broken(*numbers), asset="raw/orders__quarantine", partition=partition)
    [found] = set_aside(lake, "raw/orders")
    return found


def test_quarantined_rows_are_found_by_the_table_and_by_its_quarantine() -> None:
    wanted = ["raw/orders", "raw/orders__quarantine", "raw/orders__rejected", "raw/orders__released"]

    assert wanted == beside("raw/orders")
    assert wanted == beside("raw/orders__quarantine")


def test_every_release_counts_and_a_row_once(lake: Lake) -> None:
    release(lake, aside(lake, -1, -2), why="first", by="sam")
    release(lake, aside(lake, -2, -3), why="second", by="kim")
    refs = releases(lake, "raw/orders")

    released = released_rows(lake, "raw/orders")

    assert {DAY: refs[DAY]} == refs == {day: [it.ref for it in them] for day, them in released.inputs.items()}
    assert released.rows is not None
    assert [-3, -2, -1] == sorted(released.rows["n"])
    assert {"first", "second"} == {lake.manifest(ref).parameters["reason"] for ref in refs[DAY]}


def test_without_a_release_no_rows_are_released(lake: Lake) -> None:
    assert {} == releases(lake, "raw/orders")
    assert Released() == released_rows(lake, "raw/orders")


def test_rows_that_break_no_rule_are_not_released(lake: Lake) -> None:
    put(lake, broken(-1, 5), asset="raw/orders__rejected", partition=DAY)
    [refused] = set_aside(lake, "raw/orders")

    assert 1 == release(lake, refused, why="so", by="sam").rows
    assert ("rejected", 2) == (refused.kind, refused.total)


def test_a_release_counts_for_these_rows_and_not_for_the_next_ones(lake: Lake) -> None:
    first = aside(lake, -1)
    release(lake, first, why="so", by="sam")

    assert (False, True) == (first.is_released, next(set_aside(lake)).is_released)
    assert not aside(lake, -2).is_released


@pytest.mark.parametrize("off", [timedelta(days=365), timedelta(days=-365)])
def test_a_rejected_day_counts_until_its_table_is_published_with_any_clock(lake: Lake, off: timedelta) -> None:
    put(lake, broken(1), asset="raw/orders", partition=DAY)
    with clock(off):
        store_rejected(lake, "raw/orders", {DAY: broken(-1)}, Origin())
    assert ["rejected"] == [it.kind for it in set_aside(lake, "raw/orders")]

    with clock(-off):
        put(lake, broken(2), asset="raw/orders", partition=DAY)

    assert [] == [*set_aside(lake, "raw/orders")]


def test_a_whole_table_has_no_partition(lake: Lake) -> None:
    put(lake, broken(1, 2, 3).drop("broken_rules"), asset="raw/orders")
    found = aside(lake, -1, partition=None)

    assert ("", 4) == (found.partition, found.total)
    assert None is release(lake, found, why="so", by="sam").partition


def test_empty_quarantines_are_not_listed_and_unknown_tables_are_rejected_with_the_known_ones(lake: Lake) -> None:
    put(lake, broken(), asset="raw/orders__quarantine", partition=DAY)

    assert [] == [*set_aside(lake, "raw/orders")]
    with pytest.raises(MissingArtifactError, match=r"table 'raw/order' has no quarantined rows .*: raw/orders\."):
        next(set_aside(lake, "raw/order"))
