"""The updates sensor: what it requests, what it waits for, and that it never requests anything twice."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ml_assets.adapters.dagster import FreshnessState, FreshnessStateChange
from ml_assets.automation import updates
from ml_assets.automation.history import targets_of
from ml_assets.automation.updates import updates_sensor
from ml_assets.contracts.periods import DAILY
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.request_files import names_of_files
from ml_assets.lake.store import Lake
from ml_assets.orchestration.planner import blocked
from ml_assets.orchestration.stale import stale_of
from ml_assets.orchestration.staleness import loaded_parents, reads_of
from ml_assets.stages.checks.action import CHECK as ACTION_CHECK
from tests.automation.alerted import Heard
from tests.automation.updated import DAYS, FIRST_PREDICTED, MODEL, YESTERDAY, World, world
from tests.builders import Note, overwrite, promotion, put

FIRST = tuple(DAYS[:4])


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which four days have come and all that is made from them is there."""
    folder = tmp_path_factory.mktemp("begun")
    with world(folder) as found:
        begin(found)
    return folder


@contextmanager
def world_over(begun: Path, folder: Path, **options: Any) -> Iterator[World]:
    """Give a world over a copy of that lake, at which the sensor has looked."""
    with world(Path(shutil.copytree(begun, folder / "lake")), **options) as found:
        assert [] == found.look()
        yield found


@pytest.fixture
def flown_world(begun: Path, tmp_path: Path) -> Iterator[World]:
    """A world that has begun."""
    with world_over(begun, tmp_path) as found:
        yield found


def begin(found: World) -> None:
    found.serve()
    found.arrive(*FIRST)
    found.settle()


def names(requests: list[dg.RunRequest]) -> list[tuple[list[str], str, str]]:
    """Return the assets of each request and its first and last day."""
    return [
        (
            sorted(key.to_user_string() for key in request.asset_selection or ()),
            request.tags.get("dagster/asset_partition_range_start", ""),
            request.tags.get("dagster/asset_partition_range_end", ""),
        )
        for request in requests
    ]


def run_all(found: World) -> None:
    for run in [*found.queue]:
        found.end(run)


# ---------------------------------------------------------------- what follows from a change


def test_a_new_day_is_materialized_by_group_upstream_first(flown_world: World) -> None:
    day = DAYS[4]
    flown_world.arrive(day)
    requested = []
    while requests := flown_world.look():
        requested += names(requests)
        flown_world.launch(requests)
        run_all(flown_world)

    assert [
        (["tables/x", "tables/y", "tables/z"], day, day),
        (["m/features", "m/labels"], day, day),
        (["m/performance"], DAYS[3], DAYS[3]),  # a label of the day before may come a day late
        (["m/drift", "m/performance", "m/predictions"], day, day),
        (["m/card"], "", ""),
    ] == requested


def test_days_that_arrive_before_each_tick_hold_up_no_earlier_day(flown_world: World) -> None:
    requested = []
    for day in DAYS[4:]:
        flown_world.arrive(day)
        requests = flown_world.look()
        requested.append([(assets[-1], first, last) for assets, first, last in names(requests)])
        flown_world.launch(requests)
        run_all(flown_world)

    def of(name: str, day: int) -> tuple[str, str, str]:
        return name, DAYS[day], DAYS[day]

    assert [
        [of("tables/z", 4)],
        [of("tables/z", 5), of("m/labels", 4)],
        [of("tables/z", 6), of("m/labels", 5), of("m/performance", 3)],
        [of("tables/z", 7), of("m/labels", 6), of("m/predictions", 4)],
    ] == requested


def test_a_corrected_day_with_equal_content_updates_nothing_downstream(flown_world: World) -> None:
    flown_world.land("a", DAYS[1], "one")

    assert [] == flown_world.look()


def test_a_day_that_was_never_predicted_is_not_predicted_because_it_was_corrected(flown_world: World) -> None:
    flown_world.land("b", DAYS[0], "other")

    requested = flown_world.settle()

    assert ["updates/tables/2013-01-01", "updates/m/features and labels/2013-01-01"] == requested


def test_nothing_is_predicted_before_there_is_a_champion_and_all_since_its_training_afterwards(tmp_path: Path) -> None:
    with world(tmp_path) as found:
        found.arrive(*FIRST)

        requested = found.settle()
        assert [
            f"updates/tables/{DAYS[0]} to {DAYS[3]}",
            f"updates/m/features and labels/{DAYS[0]} to {DAYS[3]}",
        ] == requested
        assert "monitoring of m: waits for a champion" in found.reason

        found.serve()
        assert f"updates/m/monitoring/{FIRST_PREDICTED} to {DAYS[3]}" == found.settle()[0]


def test_the_verdict_on_updates_is_reported_again_after_each_run_that_has_planned_it(flown_world: World) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(["m", "features"]), ACTION_CHECK)

    @dg.asset(key=key.asset_key)
    def features() -> None: ...

    @dg.asset_check(asset=key.asset_key, name=ACTION_CHECK)
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    def state() -> str:
        return flown_world.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].status.value

    flown_world.look()
    assert "SUCCEEDED" == state()

    job = dg.Definitions(assets=[features], asset_checks=[check]).resolve_implicit_global_asset_job_def()
    flown_world.instance.create_run_for_job(job)
    assert "PLANNED" == state()

    flown_world.look()
    assert "SUCCEEDED" == state()


def test_a_damaged_promotion_log_holds_back_its_model_alone_until_it_is_restored(flown_world: World) -> None:
    path = flown_world.lake.path("promotions", MODEL, "000001.json")
    whole = flown_world.lake.read(path)
    overwrite(flown_world.lake, path, whole[:-20])
    flown_world.arrive(DAYS[4])

    requested = flown_world.settle()

    assert [f"updates/tables/{DAYS[4]}", f"updates/m/features and labels/{DAYS[4]}"] == requested
    assert "monitoring of m: waits: the promotion log of m is damaged" in flown_world.reason
    overwrite(flown_world.lake, path, whole)
    assert f"updates/m/monitoring/{DAYS[4]}" in flown_world.settle()


def test_a_new_champion_predicts_no_day_again(flown_world: World) -> None:
    flown_world._told("m/champion", "")

    assert [] == flown_world.look()


def test_a_card_is_materialized_again_when_the_champion_changes(flown_world: World) -> None:
    log = updates.PromotionLog(flown_world.lake, MODEL)
    last = log.last()
    assert last is not None
    other = put(flown_world.lake, Note(text="others"), asset="m/model").version
    log.append(last.model_copy(update={"number": 2, "champion": other}), number=2)
    flown_world._told("m/champion", "")

    assert [(["m/card"], "", "")] == names(flown_world.look())


def test_changed_code_updates_downstream_assets_only_if_its_output_changes(flown_world: World) -> None:
    flown_world.deploy(code="2")

    assert [f"updates/tables/{DAYS[0]} to {DAYS[3]}"] == flown_world.settle()
    assert flown_world.look() == []


def test_a_change_before_the_look_back_is_reported_and_updates_nothing(tmp_path: Path) -> None:
    with world(tmp_path, days=2) as found:
        found.serve()
        found.land("b", DAYS[4], "one")
        found.settle()
        found.land("b", DAYS[1], "one")

        assert [] == found.look()
        assert "raw/b changed for 2013-01-02, which is before the newest 2 days" in found.reason


# ---------------------------------------------------------------- what waits


def test_a_day_waits_for_all_of_its_sources_and_names_the_missing_ones(flown_world: World) -> None:
    flown_world.land("a", DAYS[4], "one")

    requests = flown_world.look()
    assert [(["tables/x"], DAYS[4], DAYS[4])] == names(requests)
    flown_world.launch(requests)
    flown_world.settle()
    assert f"tables ({DAYS[4]}): waits for raw/b of {DAYS[4]}, which is missing" in flown_world.reason
    assert f"raw/b: no day after {DAYS[3]} has landed." in flown_world.reason


def test_waiting_days_are_reported_by_the_source_that_has_not_landed_them(begun: Path, tmp_path: Path) -> None:
    with world_over(begun, tmp_path) as found:
        found.look(lost=True)
        assert f"raw/a, raw/b: no day after {DAYS[3]} has landed." in found.reason

        found.arrive(DAYS[6])
        found.settle()
        assert (
            f"tables ({DAYS[4]} to {DAYS[6]}): waits for raw/a of {DAYS[4]} to {DAYS[5]}, which is missing"
            in found.reason
        )

        found.arrive(DAYS[5])
        found.settle()
        left = f"({DAYS[4]} to {DAYS[5]}): waits for raw/a of {DAYS[4]}, which is missing"
        assert f"tables {left}" in found.reason
        assert f"monitoring of m {left}" in found.reason


def test_a_day_waits_for_missing_days_of_its_look_back_and_is_materialized_when_they_arrive(flown_world: World) -> None:
    """Case 12: `tables/z` reads a day back of `tables/x`, which is made from `raw/a`."""
    flown_world.arrive(DAYS[5])

    requested = flown_world.settle()
    assert [f"updates/tables/{DAYS[5]}", f"updates/m/features and labels/{DAYS[5]}"] == requested  # x, y and labels
    assert [] == [*flown_world.lake.newest("tables/z", [DAYS[5]]), *flown_world.lake.newest("m/features", [DAYS[5]])]
    assert (
        f"monitoring of m ({DAYS[4]} to {DAYS[5]}): waits for raw/a of {DAYS[4]}, which is missing"
        in flown_world.reason
    )

    graph, lake = flown_world.graph, flown_world.lake
    waiting = {(str(it.group), it.days, it.why) for it in blocked(graph, lake, MODEL, over=str(YESTERDAY), count=35)}
    assert ("tables", (DAYS[4], DAYS[5]), f"waits for raw/a of {DAYS[4]}, which is missing") in waiting
    assert ("features and labels of m", (DAYS[4],), f"waits for raw/b of {DAYS[4]}, which is missing") in waiting

    flown_world.arrive(DAYS[4])
    flown_world.settle()
    assert [] == blocked(graph, lake, MODEL, over=str(YESTERDAY), count=35)
    assert [DAYS[4], DAYS[5]] == [*flown_world.lake.newest("m/predictions", [DAYS[4], DAYS[5]])]
    assert {} == left_over(flown_world)


@pytest.mark.parametrize("digits", [0, 12])
def test_a_table_that_allows_gaps_is_materialized_with_them_and_again_when_the_days_arrive(
    tmp_path: Path, digits: int
) -> None:
    """With 0 digits every day has the same content, so only the marks show that a missing day landed."""
    with world(tmp_path, digits=digits, allow_gaps=True) as found:
        found.serve()
        found.arrive(*FIRST, DAYS[5])
        found.settle()

        def marks(day: str) -> list[dict[str, tuple[str, ...]]]:
            names = ("tables/z", "m/features", "m/predictions", "m/drift")
            return [found.lake.manifest(found.lake.find(name, day)).missing_days for name in names]

        assert [{"tables/x": (DAYS[4],)}] * 4 == marks(DAYS[5])
        assert [{}] * 4 == marks(DAYS[3])

        found.arrive(DAYS[4])
        found.settle()
        assert [{}] * 4 == marks(DAYS[5]) == marks(DAYS[4])
        assert {} == left_over(found)


@pytest.mark.parametrize("event", ["lost", "unread"])
def test_late_days_are_materialized_from_the_lake_even_if_their_events_are_lost(flown_world: World, event: str) -> None:
    flown_world.arrive(DAYS[5])
    flown_world.settle()

    flown_world.arrive(DAYS[4], is_told=False)
    if event == "lost":
        flown_world.look(lost=True)
    flown_world.settle()

    assert [DAYS[4], DAYS[5]] == [*flown_world.lake.newest("m/predictions", [DAYS[4], DAYS[5]])]


def test_the_newest_days_with_data_are_kept_up_to_date(tmp_path: Path) -> None:
    """Case 13: the declared days go on for months after the newest that has come."""
    with world(tmp_path, days=2) as found:
        found.serve()
        found.arrive(*FIRST)

        requested = found.settle()

    assert f"updates/tables/{DAYS[1]}" == requested[0]  # what the two days look back to
    assert f"updates/m/monitoring/{DAYS[2]} to {DAYS[3]}" in requested


def test_nothing_is_requested_while_a_run_materializes_its_inputs(flown_world: World) -> None:
    flown_world.land("a", DAYS[3], "other")
    landing = dg.RunRequest(
        run_key="elsewhere", asset_selection=[dg.AssetKey(["raw", "b"])], tags={"dagster/partition": DAYS[3]}
    )
    flown_world.launch([landing])

    assert [] == flown_world.look()
    assert f"waits for run {flown_world.queue[0].run_id[:8]}, which is queued or in progress" in flown_world.reason

    run_all(flown_world)
    assert f"updates/tables/{DAYS[3]} to {DAYS[4]}" not in flown_world.settle()[0]


def test_a_training_holds_up_no_predictions(flown_world: World) -> None:
    keys = [dg.AssetKey([MODEL, "training_set"]), dg.AssetKey([MODEL, "champion"])]
    flown_world.launch([dg.RunRequest(run_key="training", asset_selection=keys)])
    training = flown_world.queue.pop()
    flown_world.land("a", DAYS[3], "other")

    assert f"updates/m/monitoring/{DAYS[3]}" in flown_world.settle()
    assert not training.is_finished


# ---------------------------------------------------------------- never twice


def test_repeated_requests_have_the_same_run_keys_with_and_without_a_cursor(flown_world: World) -> None:
    flown_world.land("a", DAYS[2], "other")
    cursor = flown_world.cursor
    first = [request.run_key for request in flown_world.look()]

    flown_world.cursor = cursor
    assert first == [request.run_key for request in flown_world.look()]
    assert first == [request.run_key for request in flown_world.look()]
    assert first == [request.run_key for request in flown_world.look(lost=True)]
    assert 1 == len(first)


def test_a_failed_run_is_requested_again_when_its_facts_change_and_not_before(flown_world: World) -> None:
    flown_world.land("b", DAYS[3], "other")
    flown_world.launch(flown_world.look())
    [run] = flown_world.queue
    flown_world.end(run, made=1)

    assert [] == flown_world.look()
    assert [] == flown_world.look(lost=True)
    assert f"run {run.run_id[:8]} was requested on the same facts and its status is FAILURE" in flown_world.reason

    flown_world.land("b", DAYS[3], "mended")
    assert [["tables/y", "tables/z"]] == [assets for assets, *_ in names(flown_world.look())]


def test_a_failed_run_is_requested_again_when_its_code_changes(flown_world: World) -> None:
    flown_world.land("a", DAYS[3], "other")
    flown_world.launch(flown_world.look())
    flown_world.end(flown_world.queue[0], made=0)

    flown_world.deploy(code="2")

    assert ["tables/x", "tables/y", "tables/z"] == names(flown_world.look())[0][0]


def test_a_cursor_of_something_else_is_reported_and_counts_as_lost(flown_world: World) -> None:
    flown_world.cursor = '{"neither": "this"}'

    assert [] == flown_world.look()
    assert "the cursor cannot be read, so everything is checked." in flown_world.reason


def test_at_most_so_many_runs_are_requested_at_once_and_the_others_next(
    flown_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "MOST_REQUESTS", 1)
    for day in (DAYS[0], DAYS[3]):
        flown_world.land("b", day, "other")

    assert [f"updates/tables/{DAYS[0]}", f"updates/tables/{DAYS[3]}"] == flown_world.settle()[:2]


def test_a_check_over_the_limit_of_a_tick_continues_at_the_next(
    flown_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "MOST_LOOKS", 8)
    flown_world.land("a", DAYS[3], "other")

    looks = 0
    while not (requests := flown_world.look(lost=looks == 0)):
        looks += 1
        assert looks < 12

    assert "tables/x" in names(requests)[0][0]
    flown_world.launch(requests)
    flown_world.settle()
    assert {} == left_over(flown_world)


# ---------------------------------------------------------------- freshness


def fail_freshness(found: World, key: dg.AssetKey) -> None:
    change = FreshnessStateChange(
        key=key,
        previous_state=FreshnessState.PASS,
        new_state=FreshnessState.FAIL,
        state_change_timestamp=datetime.now(UTC).timestamp(),
    )
    found.instance.report_runless_asset_event(change)


def test_an_asset_that_is_not_fresh_is_checked_once_and_requested_with_its_cause(
    flown_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "IN_TURN", 0)
    labels = dg.AssetKey([MODEL, "labels"])
    [ref] = flown_world.lake.newest("m/labels", [DAYS[2]]).values()
    remove(flown_world, ref)
    assert [] == flown_world.look()

    fail_freshness(flown_world, labels)

    [request] = flown_world.look()
    assert ([labels], "freshness") == (request.asset_selection, request.tags["ml_assets/cause"])


def test_an_asset_that_is_not_fresh_for_lack_of_data_is_reported_and_not_requested(flown_world: World) -> None:
    fail_freshness(flown_world, dg.AssetKey([MODEL, "labels"]))

    assert [] == flown_world.look()
    assert "the freshness of m/labels fails." in flown_world.reason


def test_old_data_is_reported_until_a_new_day_arrives_and_is_requested_with_its_cause(
    begun: Path, tmp_path: Path
) -> None:
    with world_over(begun, tmp_path, data_lag_days=3) as found:
        old = f"the data of tables/x is too old: newest day {DAYS[3]}, 4 days behind; at most 3 are allowed."
        assert [] == found.look()
        assert old in found.reason

        found.land("a", DAYS[4], "one")
        requests = found.look()
        assert ["freshness"] == [request.tags["ml_assets/cause"] for request in requests]

        found.launch(requests)
        found.settle()
        assert "the data of tables/x is too old" not in found.reason


def test_data_that_has_become_too_old_alerts_once_with_a_lost_cursor_too(
    begun: Path, tmp_path: Path, heard: Heard
) -> None:
    with world_over(begun, tmp_path, data_lag_days=3) as found:
        found.look()
        found.look()
        found.look(lost=True)
        titles = sorted(alert.title for alert in heard.alerts)
        assert [
            f"The data of tables/{name} is too old: newest day {DAYS[3]}, 4 days behind; at most 3 are allowed"
            for name in "xyz"
        ] == titles
        assert {"freshness_missed"} == {alert.kind for alert in heard.alerts}
        assert {datetime(2013, 1, 9, tzinfo=UTC)} == {alert.occurred_at for alert in heard.alerts}


def remove(found: World, ref: ArtifactRef) -> None:
    for path in Path(found.lake.directory(ref)).iterdir():
        path.unlink()


# ---------------------------------------------------------------- any sequence of events

land = st.tuples(st.just("land"), st.sampled_from("ab"), st.sampled_from(DAYS[1:6]), st.sampled_from(["one", "two"]))
others = st.sampled_from(
    [("look",), ("lost",), ("twice",), ("end",), ("fail", 0), ("fail", 1), ("deploy", "1"), ("deploy", "2")]
)


@example(
    events=[
        ("land", "b", "2013-01-05", "one"),
        ("land", "b", "2013-01-02", "two"),
        ("land", "a", "2013-01-04", "two"),
        ("twice",),
        ("fail", 0),
        ("land", "a", "2013-01-03", "two"),
        ("twice",),
        ("land", "a", "2013-01-03", "one"),
        ("land", "a", "2013-01-04", "two"),
        ("fail", 1),
        ("end",),
        ("land", "a", "2013-01-06", "one"),
    ]
)
@settings(max_examples=10, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(events=st.lists(land | others, max_size=14))
def test_under_faults_everything_is_updated_upstream_first_and_nothing_is_requested_twice(
    begun: Path, events: list[tuple[Any, ...]]
) -> None:
    with TemporaryDirectory() as folder, world_over(begun, Path(folder)) as found:
        for event in events:
            happen(found, *event)
        settle_after_all(found)

        assert {} == left_over(found), found.reason


def happen(found: World, name: str, *given: str) -> None:
    if name == "land":
        found.land(*given)
    elif name == "deploy":
        found.deploy(code=given[0])
    elif name in {"look", "lost", "twice"}:
        requests = found.look(lost=name == "lost")
        if name == "twice":
            assert [it.run_key for it in requests] == [it.run_key for it in found.look()]
        hold(found, requests)
        found.launch(requests)
    elif found.queue:
        found.end(found.queue[0], made=int(given[0]) if name == "fail" else None)


def hold(found: World, requests: list[dg.RunRequest]) -> None:
    """No request is repeated, and no request reads an out-of-date asset that it does not update."""
    before = {run.tags["dagster/run_key"] for run in found.instance.get_runs()}
    assert not before.intersection(str(request.run_key) for request in requests)
    stale = left_over(found)
    for request in requests:
        run = dg.DagsterRun("run", asset_selection=frozenset(request.asset_selection or ()), tags=request.tags)
        keys, days = targets_of(run, DAILY)
        for key, day in [(it, day) for it in keys for day in stale.get(it, set()) & days]:
            for parent in loaded_parents(found.graph, key):
                late = stale.get(parent, set())
                reads = late.intersection(reads_of(found.graph, key, parent, day) or late)
                assert parent in keys or not reads, (request.run_key, key, parent, reads)
                assert reads <= days, (request.run_key, key, parent, reads)


def left_over(found: World) -> dict[dg.AssetKey, set[str]]:
    """Return what is out of date though its sources are there, those that it looks back to included."""
    landed = set(found.lake.partitions("raw/a"))
    there = {"", *(landed & set(found.lake.partitions("raw/b")))}
    before = dict(zip(DAYS[1:], DAYS, strict=False))
    whole = {day for day in there if day not in before or before[day] in landed}  # `tables/z` reads a day back of x
    left: dict[dg.AssetKey, set[str]] = {}
    for key, days in found.stale().items():
        can = there if key.path[-1] in {"x", "y", "labels"} else whole
        late = {
            day for day, why in days.items() if day in can and (why != "parent" or reads_any(found, key, day, left))
        }
        left |= {key: late} if late else {}
    return left


def reads_any(found: World, key: dg.AssetKey, day: str, late: dict[dg.AssetKey, set[str]]) -> bool:
    parents = loaded_parents(found.graph, key)
    return any(late[it].intersection(reads_of(found.graph, key, it, day) or late[it]) for it in parents if it in late)


LANDED = tuple((name, day) for day in DAYS[:6] for name in "ab")


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What there is in the end where each day is landed and built before the next comes."""
    with world(tmp_path_factory.mktemp("in_order"), digits=12) as found:
        found.serve()
        for name, day in LANDED:
            found.land(name, day, day)
            if name == "b":
                found.settle()
        return found.versions()


@settings(max_examples=5, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(
    order=st.permutations(LANDED),
    between=st.lists(
        st.sampled_from(["", "", "settle", "launch", "lost", "killed", "fail", "untold"]),
        min_size=len(LANDED), max_size=len(LANDED),
    ),
)  # fmt: skip
def test_the_order_of_landing_and_restarts_does_not_change_the_result(
    in_order: dict[str, dict[str, str]], order: list[tuple[str, str]], between: list[str]
) -> None:
    with TemporaryDirectory() as folder, world(Path(folder), digits=12) as found:
        found.serve()
        for (name, day), then in zip(order, between, strict=True):
            found.land(name, day, day, is_told=then != "untold")
            restart(found, then)
        settle_after_all(found)

        assert in_order == found.versions(), found.reason


def restart(found: World, then: str) -> None:
    """Let the daemon do something between two landings, or die at it."""
    if then == "settle":
        found.settle()
    elif then in {"launch", "lost", "fail"}:
        found.launch(found.look(lost=then == "lost"))
        if then == "fail" and found.queue:
            found.end(found.queue[0], made=1)
    elif then == "killed":
        found.look()  # its cursor is stored, and none of the runs that it requested


def settle_after_all(found: World) -> None:
    """Let what failed be run again by a person, and all else by the sensor."""
    for _ in range(60):
        for run in [*found.queue]:
            found.end(run)
        requests = found.look()
        hold(found, requests)
        if not requests:
            failed = [
                run
                for run in found.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
                if f"run {run.run_id[:8]} was requested on the same facts" in found.reason
            ]
            if not failed:
                return
            again = failed[0]
            found.queue.append(again)
            found.end(again)
        found.launch(requests)
    raise AssertionError(f"it never ends: {found.reason}")


# ---------------------------------------------------------------- as Dagster evaluates it


def test_dagster_takes_its_requests_for_runs_over_a_range_of_days(flown_world: World) -> None:
    flown_world.land("a", DAYS[3], "other")
    sensor = updates_sensor(flown_world.declared)
    with dg.build_sensor_context(
        instance=flown_world.instance,
        repository_def=flown_world.repository,
        cursor=flown_world.cursor,
        resources={
            "ml_assets_lake": updates.LakeResource(url=flown_world.lake.url),
            "ml_assets_alerts": flown_world.alerts,
        },
    ) as context:
        [request] = sensor.evaluate_tick(context).run_requests or ()

    assert {
        "ml_assets/cause": "updates",
        "dagster/asset_partition_range_start": DAYS[3],
        "dagster/sensor_name": "ml_assets_updates",
    }.items() <= {**request.tags}.items()
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


# ---------------------------------------------------------------- another grain


def test_after_a_change_of_the_grain_to_hours_and_back_periods_of_the_other_grain_are_not_read_and_not_lost(
    flown_world: World,
) -> None:
    flown_world.arrive(DAYS[4])
    flown_world.launch(flown_world.look())  # a run over days goes on
    days = flown_world.versions()

    flown_world.deploy(grain="hour")
    assert [] == flown_world.look()
    assert "the grain of the declared days has changed from 'day' to 'hour'" in flown_world.reason
    assert [] == blocked(flown_world.graph, flown_world.lake, MODEL, over=f"{YESTERDAY}T23", count=35)
    hours = [f"{DAYS[4]}T{hour:02}" for hour in range(3)]
    run = flown_world.queue.pop()
    flown_world.arrive(*hours)
    assert flown_world.settle()
    assert {*hours} == {*flown_world.lake.newest("tables/x")} - {*days["tables/x"]}
    assert [] == flown_world.look()
    assert "waits for raw/a of 2013-01-01T00 to 2013-01-04T23, which is missing" in flown_world.reason

    flown_world.deploy()
    flown_world.look()
    assert "the grain of the declared days has changed from 'hour' to 'day'" in flown_world.reason
    flown_world.end(run)
    flown_world.settle()
    missing = {day for found in flown_world.stale().values() for day, why in found.items() if why == "missing"}
    assert {*DAYS[5:]} == missing  # they have not landed
    assert all(days[name].keys() <= found.keys() for name, found in flown_world.versions().items())


# ---------------------------------------------------------------- challengers in shadow


def test_challengers_in_shadow_follow_the_monitoring_in_a_run_of_their_own_and_the_promotion_log(
    tmp_path: Path,
) -> None:
    with world(tmp_path, in_shadow=True) as found:
        begin(found)
        found.arrive(DAYS[4])

        requested = found.settle()

        assert f"updates/m/shadow/{DAYS[4]}" in requested
        assert requested.index(f"updates/m/monitoring/{DAYS[4]}") < requested.index(f"updates/m/shadow/{DAYS[4]}")
        late = {key: days for key, its in found.stale().items() if (days := {*its.values()} - {"missing", "parent"})}
        assert {} == late

        rejected = promotion(2, champion=None, model=MODEL)
        log = PromotionLog(found.lake, MODEL)
        log.append(rejected.model_copy(update={"champion": log.entries()[0].champion}), number=2)
        assert [(["m/shadow"], "", "")] == names(found.look(lost=True))


# ---------------------------------------------------------------- the request log


@pytest.fixture
def served_world(tmp_path: Path) -> Iterator[World]:
    """A world in which requests of one day were logged, and are materialized."""
    with world(tmp_path, is_served=True) as found:
        begin(found)
        found.answer(DAYS[1])
        found.settle()
        yield found


def test_requests_of_a_day_and_what_is_measured_on_them_are_requested_once_the_log_has_files(tmp_path: Path) -> None:
    with world(tmp_path, is_served=True) as found:
        begin(found)
        assert "requests" not in found.reason
        found.answer(DAYS[1])

        assert [f"updates/m/served/{DAYS[1]}"] == found.settle()

        assert {DAYS[1]} == {day for name in ("requests", "served_drift", "served_performance")
                             for day in found.lake.partitions(f"m/{name}")}  # fmt: skip
        assert "waits" not in found.reason
        assert [] == found.settle()


def test_a_day_is_built_again_each_time_a_file_comes_late(served_world: World) -> None:
    for number in (2, 3):
        served_world.answer(DAYS[1], number)

        assert [f"updates/m/served/{DAYS[1]}"] == served_world.settle()

    read = served_world.lake.manifest(served_world.lake.find("m/requests", DAYS[1]))
    assert 3 == len(names_of_files(read))


def test_a_day_is_not_built_before_its_files_are_settled(served_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    served_world.answer(DAYS[2])
    monkeypatch.setattr(Lake, "now", lambda _: datetime(2013, 1, 4, 0, 59, tzinfo=UTC))
    assert [] == served_world.look(lost=True)

    monkeypatch.setattr(Lake, "now", lambda _: datetime(2013, 1, 4, 1, 0, tzinfo=UTC))
    assert [(["m/requests", "m/served_drift", "m/served_performance"], DAYS[2], DAYS[2])] == names(served_world.look())


def test_a_day_whose_files_were_removed_stays_as_it_is_when_the_code_changes(served_world: World) -> None:
    served_world.answer(DAYS[2])
    served_world.settle()
    shutil.rmtree(Path(served_world.lake.url, "requests", "m", DAYS[1]))
    served_world.deploy(code="2")

    requested = served_world.settle()

    assert f"updates/m/served/{DAYS[2]}" in requested
    assert f"updates/m/served/{DAYS[1]}" not in requested


def test_what_reads_a_period_that_was_never_materialized_is_not_reported_as_out_of_date(flown_world: World) -> None:
    shutil.rmtree(Path(flown_world.lake.url) / "artifacts" / "m" / "predictions" / FIRST_PREDICTED)
    assert "parent" == flown_world.stale()[dg.AssetKey(["m", "drift"])][FIRST_PREDICTED]

    def reported() -> list[str]:
        found = stale_of(flown_world.graph, flown_world.lake, MODEL, over=str(YESTERDAY), count=35)
        return [one.asset for one in found if FIRST_PREDICTED in one.days]

    assert [] == reported()
    flown_world.land("a", FIRST_PREDICTED, "two")
    assert ["tables/x"] == reported()[:1]
