"""The watch over a new champion: what is rolled back, once, and the consequences; and the rollback drill."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.automation.watch import TRIES, rollback_drill, rollback_drill_job, rollback_job
from ml_assets.contracts.artifacts.training import Feature, Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.declaration.reading import Declared
from ml_assets.lake.errors import LakeError
from ml_assets.models.plan import ModelPlan
from ml_assets.warehouse.project_contracts import read_contracts
from tests.automation.looped import BEGIN, MODEL, World, beside, declared, spec, world
from tests.builders import failure, flights_declared, put
from tests.flights import DBT_PROJECT, build

PlanOf = Callable[[str], ModelPlan]


@pytest.fixture
def it(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "lake", declared({"drift_days": 1, "drift_window_days": 1, "cool_down_days": 2})) as one:
        yield one


@pytest.fixture(scope="module")
def plan_of(manifest: Mapping[str, Any]) -> PlanOf:
    """Give the plan of the world's model."""
    plan = ModelPlan.of(declared().models[0], read_contracts(manifest, DBT_PROJECT))
    return {MODEL: plan}.__getitem__


def promoted(it: World) -> tuple[str, str]:
    """Promote a second champion that was trained as of the last day; return the former and the current champion."""
    first, second = it.champion, it.train(it.day - timedelta(days=1), rounds=2)
    it.serve(second)
    return first, second


def worse(it: World, first: str, days: int = 5) -> None:
    """Add days on which the champion is worse than its predecessor by slightly more than 0.05."""
    for number in range(days):
        it.live(auc=0.75 - 0.002 * number, former=(first, 0.8))


def run(job: dg.JobDefinition, it: World, config: Mapping[str, Any]) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(
        instance=it.instance, resources={"ml_assets_lake": it.resource}, run_config=dict(config), raise_on_error=False
    )


# ---------------------------------------------------------------- taking back


def test_no_model_is_trained_against_a_champion_that_is_about_to_be_rolled_back(it: World) -> None:
    first, _ = promoted(it)
    for number in range(6):
        it.live(is_over=True, auc=0.75 - 0.002 * number, former=(first, 0.8))

    assert [] == it.look("drift")
    assert "It is postponed: the champion is worse than the former one and is rolled back first." in it.reason
    assert [] == it.records()

    it.measure(it.day - timedelta(days=1), auc=0.85, former=(first, 0.8))
    it.measure(it.day - timedelta(days=2), auc=0.85, former=(first, 0.8))

    assert ["drift"] == [request.tags["ml_assets/cause"] for request in it.look("drift")]


def test_a_worse_champion_is_rolled_back_within_the_declared_days_with_a_record_and_no_ping_pong_follows(
    it: World, plan_of: PlanOf
) -> None:
    it.live()
    first, second = promoted(it)
    worse(it, first, days=4)
    assert [] == it.look("watch")
    assert "m: Not judged: only 4 days have figures of both" in it.reason
    worse(it, first, days=1)
    [request] = it.look("watch")

    assert "take_back/m/2/1" == request.run_key
    assert {"ml_assets/cause": "watch", "ml_assets/model": MODEL}.items() <= request.tags.items()
    result = run(rollback_job(plan_of), it, request.run_config)

    assert result.success
    entry: Promotion = it.log().entries()[-1]
    assert (3, "rollback", first, "watch", "watch") == (
        entry.number, entry.action, entry.champion, entry.decided_by, entry.cause,
    )  # fmt: skip
    assert result.run_id == entry.run_id
    assert (
        "Over 5 days (2013-03-02 to 2013-03-06), the mean daily difference in roc_auc within day between champion "
        f"{second}" in entry.reasons[0]
    )
    assert entry.figures["difference, at most"] < -0.01

    it.serve(second, "reject")
    worse(it, first)
    assert [] == it.look("watch", is_lost=True)
    assert "m: no new champion to watch" == it.reason


def test_after_a_champion_was_rolled_back_the_cool_down_is_doubled(it: World) -> None:
    it.live(is_over=True)
    it.live(is_over=True)
    it.launch(it.look())
    it.end()
    first, _ = promoted(it)
    it.serve(first, "rollback")
    requested = []
    for _ in range(4):
        day = it.live(is_over=True)
        requested += [day] * len(it.look())

    assert [it.records()[0].as_of + timedelta(days=4)] == requested


def test_after_a_model_that_a_person_trained_was_rolled_back_the_cool_down_counts_from_then(it: World) -> None:
    for _ in range(6):
        it.live()
    first, _ = promoted(it)
    worse(it, first)
    taken_back = it.day - timedelta(days=1)
    it.serve(first, "rollback")
    requested, reasons = [], []
    for _ in range(5):
        day = it.live(is_over=True)
        requested += [day] * len(it.look())
        reasons.append(it.reason)

    assert [taken_back + timedelta(days=4)] == requested
    assert (
        f"It is postponed until {requested[0]}: a champion was rolled back on {taken_back}, and the cool-down is 4 days"
        in reasons[0]
    )


def test_a_champion_that_a_person_promoted_again_is_not_rolled_back_on_the_same_figures(it: World) -> None:
    first, second = promoted(it)
    worse(it, first)
    it.serve(first, "rollback")
    it.serve(second)

    assert [] == it.look("watch")
    assert "m: no new champion to watch" == it.reason


def test_an_equal_champion_remains_and_is_reported_as_settled(it: World) -> None:
    first, _ = promoted(it)
    for number in range(9):
        it.live(auc=0.8 + 0.001 * (number % 3), former=(first, 0.8))

    assert [] == it.look("watch")
    assert "Over 7 days (2013-03-01 to 2013-03-07)" in it.reason


# ---------------------------------------------------------------- once, and in the end


def test_a_rollback_is_requested_once_and_again_after_a_failed_run_up_to_a_limit(it: World) -> None:
    first, _ = promoted(it)
    worse(it, first)
    for number in range(1, TRIES + 1):
        [request] = it.look("watch", dies=True)
        assert [request] == it.look("watch", is_lost=True)
        assert f"take_back/m/2/{number}" == request.run_key
        it.launch([request], "watch")
        assert [] == it.look("watch", is_lost=True)
        assert [] == it.look("watch")
        assert it.reason.endswith(f" Run {it.under_way()[0].run_id[:8]} is rolling it back.")
        it.end(well=False)

    assert [] == it.look("watch")
    assert "3 runs failed to roll it back; read their errors, then: ml-assets rollback m --why REASON" in it.reason


def test_where_another_decided_in_between_nothing_is_rolled_back(it: World, plan_of: PlanOf) -> None:
    first, _ = promoted(it)
    worse(it, first)
    [request] = it.look("watch")
    it.serve(it.train(it.day, rounds=3))

    assert run(rollback_job(plan_of), it, request.run_config).success
    assert ["promote"] * 3 == [entry.action for entry in it.log().entries()]


def test_a_removed_version_is_not_rolled_back_to(it: World, plan_of: PlanOf) -> None:
    first, _ = promoted(it)
    worse(it, first)
    [request] = it.look("watch")
    shutil.rmtree(Path(it.lake.url) / "artifacts" / MODEL / "model" / first)

    _, message = failure(run(rollback_job(plan_of), it, request.run_config))

    assert f"m: {first} cannot be the champion: m/model@{first[:12]} " in message
    assert "Roll back to another version: ml-assets rollback m --to VERSION" in message
    assert 2 == len(it.log().entries())


def test_a_damaged_report_fails_the_tick_and_is_named(it: World) -> None:
    first, _ = promoted(it)
    worse(it, first)
    [path] = (Path(it.lake.url) / "artifacts" / MODEL / "performance" / "2013-03-02").glob("*/summaries.json")
    path.write_text("{}")

    with pytest.raises(LakeError, match=f"m: {path} is damaged"):
        it.look("watch")


def test_a_model_with_a_damaged_report_is_checked_again_after_a_tick_in_which_another_was_rolled_back(
    tmp_path: Path,
) -> None:
    one = declared()
    project = Declared(models=(*one.models, one.models[0].model_copy(update={"name": "n"})))
    with world(tmp_path / "lake", project) as damaged:
        damaged.look("watch")
        for it in (damaged, beside(damaged, project, "n")):
            first, _ = promoted(it)
            worse(it, first)
        [path] = (tmp_path / "lake" / "artifacts" / MODEL / "performance" / "2013-03-02").glob("*/summaries.json")
        whole = path.read_bytes()
        path.write_text("{}")
        requested = damaged.look("watch")
        assert ["take_back/n/2/1"] == [it.run_key for it in requested]
        damaged.launch(requested, "watch")
        path.write_bytes(whole)

        assert ["take_back/m/2/1"] == [it.run_key for it in damaged.look("watch")]


# ---------------------------------------------------------------- the drill


def drilled(it: World, plan_of: PlanOf) -> dg.ExecuteInProcessResult:
    return run(rollback_drill_job(plan_of), it, {"ops": {"ml_assets_drill": {"config": {"model": MODEL}}}})


@pytest.fixture(scope="module")
def tree() -> str:
    """A small booster of one feature, as text."""
    import lightgbm

    rows = pl.DataFrame({"distance_miles": range(100)}).to_numpy()
    data = lightgbm.Dataset(rows, label=[n % 2 for n in range(100)], feature_name=["distance_miles"])
    return str(lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 1).model_to_string())


def with_two_that_score(it: World, tree: str) -> str:
    """Let one version serve after another, both of a feature that the declared model has; return the first."""
    feature = (Feature(name="distance_miles", dtype="Int64"),)
    first, second = (
        put(
            it.lake, Model(tree, spec(it.day, rounds=n, features=feature), pl.DataFrame({"n": [1]})),
            asset=f"{MODEL}/model",
        ).version
        for n in (1, 2)
    )  # fmt: skip
    it.serve(first)
    it.serve(second)
    return first


def test_the_drill_scores_the_newest_day_with_the_former_champion_and_writes_nothing(
    it: World, plan_of: PlanOf, tree: str
) -> None:
    first = with_two_that_score(it, tree)
    for day, rows in (("2013-03-01", 3), ("2013-03-02", 5)):
        frame = pl.DataFrame({"distance_miles": range(rows)})
        put(it.lake, frame, asset=f"{MODEL}/features", partition=day)

    result = drilled(it, plan_of)

    assert result.success, failure(result)
    [output] = [event for event in result.all_node_events if event.event_type_value == "STEP_OUTPUT"]
    metadata = output.step_output_data.metadata
    assert (first, "2013-03-02", 5) == tuple(
        metadata[name].value for name in ("would be champion", "day", "rows scored")
    )
    assert 3 == len(it.log().entries())


def test_the_drill_fails_where_the_newest_day_cannot_be_scored(it: World, plan_of: PlanOf, tree: str) -> None:
    first = with_two_that_score(it, tree)
    _, nothing = failure(drilled(it, plan_of))
    put(it.lake, pl.DataFrame({"other": [1]}), asset=f"{MODEL}/features", partition="2013-03-01")
    _, wrong = failure(drilled(it, plan_of))

    assert "m has no features to score. Materialize them: ml-assets run m" in nothing
    assert f"m: {first} would be the champion after a rollback, and cannot score 2013-03-01: " in wrong
    assert "distance_miles" in wrong


def test_the_drill_fails_if_the_former_champion_gives_other_scores(it: World, plan_of: PlanOf) -> None:
    it.serve(it.train(it.day, task="regression"))
    it.serve(it.train(it.day, rounds=3))

    _, message = failure(drilled(it, plan_of))

    assert "its task is regression; the declaration has binary." in message


def test_without_a_former_champion_there_is_nothing_to_drill(it: World, plan_of: PlanOf) -> None:
    assert drilled(it, plan_of).success


def test_the_code_location_has_every_sensor_and_schedule_once_for_all_models(manifest: Mapping[str, Any]) -> None:
    whole = flights_declared()
    copies = tuple(whole.models[0].model_copy(update={"name": name}) for name in ("one", "two"))
    location = build(declared=Declared(models=copies, raw=whole.raw, tables=whole.tables), manifest=manifest)
    repository = location.get_repository_def()

    names = ("alerts", "arrivals", "drift", "overview", "performance", "updates", "watch")
    assert [f"ml_assets_{it}" for it in names] == sorted(it.name for it in repository.sensor_defs)
    assert {
        "ml_assets_clean_up_lake", "ml_assets_daily_landing", "ml_assets_drill_rollbacks",
        "ml_assets_reproduce_champions", "ml_assets_retraining_floor",
    } == {it.name for it in repository.schedule_defs}  # fmt: skip
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    assert {f"ml_assets_{it}" for it in ("clean_up", "reproduce", "rollback_drill", "take_back")} == jobs


def test_each_week_every_model_is_drilled_once(plan_of: PlanOf) -> None:
    one = declared().models[0]
    both = Declared(models=(one, one.model_copy(update={"name": "n"})))
    schedule = rollback_drill(both, rollback_drill_job(plan_of))
    with dg.build_schedule_context(scheduled_execution_time=BEGIN) as context:
        requests = schedule.evaluate_tick(context).run_requests or []

    assert ["rollback_drill/m/2026-11-23T06:00", "rollback_drill/n/2026-11-23T06:00"] == [it.run_key for it in requests]
    assert {"ops": {"ml_assets_drill": {"config": {"model": "n"}}}} == requests[1].run_config
    with dg.build_schedule_context(scheduled_execution_time=BEGIN) as context:
        nobody = rollback_drill(Declared(), rollback_drill_job(plan_of)).evaluate_tick(context)
    assert "no model is declared." == nobody.skip_message
