"""The age of the data: how it is counted, the check in a run, and how the sensor keeps it up as days pass."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.automation.data_age import look_at_ages
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import TablesDeclaration
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.stages.checks.data_age import CHECK, AgeLimit, age_limits, data_age_checks, newest_day_of
from tests.builders import flights_declared, frame, put

KEY = dg.AssetKey(["tables", "orders"])
YEAR = Days(first=date(2026, 1, 1))
LIMIT = AgeLimit(YEAR, most=1)


def declared() -> Declared:
    return Declared(tables=(TablesDeclaration(days=YEAR, freshness=Freshness(data_lag_days=1)),))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(str(tmp_path))
    put(found, frame(1), asset="tables/orders", partition="2026-03-04")
    return found


def test_the_age_of_data_is_the_distance_of_its_newest_day_from_the_newest_possible_day() -> None:
    ended = AgeLimit(Days(first=date(2026, 1, 1), last=date(2026, 3, 5)), most=1)

    assert [0, 3, 64] == [LIMIT.behind(day, date(2026, 3, 5)) for day in ("2026-03-05", "2026-03-02", "")]
    assert 1 == ended.behind("2026-03-04", date(2026, 12, 31))


def test_a_declared_age_counts_for_all_tables_by_day_and_for_the_champion() -> None:
    model = flights_declared(freshness={"champion": {"data_lag_days": 30}, "card": {"data_lag_days": 3}}).models[0]
    found = age_limits(Declared(models=(model,), tables=declared().tables), [KEY, dg.AssetKey(["raw", "orders"])])

    assert {KEY: LIMIT, dg.AssetKey([model.name, "champion"]): AgeLimit(model.days, 30, model.name)} == found


def test_the_age_of_months_counts_from_the_end_of_the_newest_one_to_the_end_of_the_newest_one_that_is_over() -> None:
    limit = AgeLimit(Days(first=date(2026, 1, 1), grain="month"), 0)

    over = [date(2026, 3, 30), date(2026, 3, 31), date(2026, 4, 29)]
    assert [0, 31, 31] == [limit.behind("2026-02-01", it) for it in over]
    assert [59, 90] == [limit.behind("", it) for it in over[:2]]
    assert 28 == AgeLimit(limit.days, 0, "returns").behind("2026-01-31", over[0])


def test_of_hours_the_newest_whole_day_counts() -> None:
    limit = AgeLimit(Days(first=date(2026, 1, 1), timezone="Europe/Zurich", grain="hour"), 0)

    # The last hour of 5 March in Zurich begins at 22:00 UTC.
    assert [0, 1, 0] == [limit.behind(f"2026-03-05T{hour}", date(2026, 3, 5)) for hour in (22, 21, 23)]


def test_the_check_in_a_run_reports_the_newest_day_and_never_blocks(lake: Lake) -> None:
    days = dg.DailyPartitionsDefinition("2026-01-01")
    orders = dg.asset(key=KEY, partitions_def=days)(lambda: None)
    [check] = data_age_checks(declared(), [orders])

    done = dg.materialize(
        [orders, check], partition_key="2026-03-04", resources={"ml_assets_lake": LakeResource(url=lake.url)}
    ).get_asset_check_evaluations()

    assert [(CHECK, dg.AssetCheckSeverity.WARN, "2026-03-04")] == [
        (one.check_name, one.severity, one.metadata["newest day"].value) for one in done
    ]


def seen(instance: dg.DagsterInstance) -> list[bool]:
    """Return the answers that were reported, oldest first, and that none was counted as a materialization."""
    assert instance.get_latest_materialization_event(KEY) is None
    found = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(KEY, CHECK), limit=50)
    return [bool(one.evaluation and one.evaluation.passed) for one in reversed(found)]


def test_the_check_is_reported_when_its_answer_changes_and_not_at_every_look(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    known: dict[str, str] = {}
    lines = []
    for day, changed in ((4, ""), (5, ""), (6, ""), (6, ""), (7, ""), (7, "2026-03-07")):
        found = look_at_ages(
            instance, lake, {KEY: LIMIT}, changed={KEY: {changed}} if changed else {}, before=known,
            yesterday=date(2026, 3, day), is_new_day=True,
        )  # fmt: skip
        known = found.known
        lines.append(found.lines)

    assert [True, False, False, True] == seen(instance)
    assert (
        "the data of tables/orders is too old: newest day 2026-03-04, 2 days behind; at most 1 are allowed.",
    ) == lines[2]
    assert lines[5] == ()


def test_the_age_of_the_champion_is_that_of_the_labels_it_was_trained_on(tmp_path: Path) -> None:
    from tests.automation.updated import DAYS, MODEL, world

    key = dg.AssetKey([MODEL, "champion"])
    with world(tmp_path) as found:
        assert "" == newest_day_of(found.lake, key, AgeLimit(YEAR, 1, MODEL))
        found.serve()
        assert DAYS[1] == newest_day_of(found.lake, key, AgeLimit(YEAR, 1, MODEL))
