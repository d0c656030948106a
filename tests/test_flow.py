"""The whole flow, raw to card, on six weeks of real flights; what one lake shows is asserted test by test."""

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from ml_assets.cli.flow.summary import summarize, summary_text
from ml_assets.contracts.artifacts.card import Card
from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.parts import Days
from ml_assets.declaration.training_set import Split
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import CARD, INPUTS, MONITORING, SHADOW, TRAINING, Span
from ml_assets.orchestration.stale import stale_of
from ml_assets.orchestration.staleness import out_of_date, upstream_of
from ml_assets.warehouse.nodes import look_back_days
from tests.builders import FLOWN, days, files_of, flights_declared, forget_promotions, project, promotion, put
from tests.edited import PART_INVERTED, edited
from tests.entered import files_of_steps
from tests.publications import newest_name

MODEL = "flight_delay"
PREDICTED = [str(day) for day in days(date(2013, 1, 28), 14)]


MOST_FILES = 22


@pytest.fixture
def lake(flown: Path) -> Lake:
    return Lake(str(flown))


def log_of(lake: Lake, model: str = MODEL) -> list[Promotion]:
    return PromotionLog(lake, model).entries()


def lineage(lake: Lake, ref: ArtifactRef) -> dict[ArtifactRef, Manifest]:
    """Follow manifests from one artifact to everything it was made from."""
    found: dict[ArtifactRef, Manifest] = {}
    waiting = [ref]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = lake.manifest(one)
            waiting += found[one].inputs
    return found


def lines_of_stale(lake: Lake, manifest: Mapping[str, Any]) -> list[str]:
    """Return what `explain` says is out of date by the code there is."""
    with project(LakeResource(url=lake.url), flights_declared(), manifest=manifest) as whole:
        found = stale_of(whole.flow.graph, lake, MODEL, over=str(FLOWN.newest(datetime.now(tz=UTC))), count=35)
    return [it.line for it in found]


# ---------------------------------------------------------------- what one run leaves behind


def test_every_stage_stores_an_artifact_for_every_requested_day(lake: Lake) -> None:
    every = [str(day) for day in days(FLOWN.first, 41)]

    assert every == lake.partitions("raw/flights")
    assert every == lake.partitions("tables/flight_features")
    assert every == lake.partitions(f"{MODEL}/features")
    for stage in MONITORING:
        assert PREDICTED == lake.partitions(f"{MODEL}/{stage}")
    for stage in (*TRAINING, *CARD):
        assert "" in lake.newest(f"{MODEL}/{stage}")


@pytest.mark.parametrize("stage", [*INPUTS, *TRAINING, *MONITORING, *CARD])
def test_each_artifact_can_be_followed_back_to_raw_files_and_their_digests(lake: Lake, stage: str) -> None:
    partition = PREDICTED[0] if stage in {*INPUTS, *MONITORING} else None
    found = lineage(lake, lake.find(f"{MODEL}/{stage}", partition))

    ends = {ref.asset for ref, manifest in found.items() if not manifest.inputs}
    sources = {manifest.parameters.get("source") for ref, manifest in found.items() if ref.asset == "raw/flights"}

    assert {"raw/flights"} <= ends
    assert {asset for asset in ends if not asset.startswith("raw/")} == set()
    assert len(sources) == 1
    assert None not in sources


def test_manifests_record_the_code_and_the_run_of_an_artifact(lake: Lake) -> None:
    found = lineage(lake, lake.find(f"{MODEL}/card"))

    assert [] == [str(ref) for ref, m in found.items() if m.code_version is None or m.run_id is None]
    assert 1 == len({manifest.environment for manifest in found.values()})


def test_the_inputs_of_a_day_in_a_run_over_many_are_only_the_days_it_read(lake: Lake) -> None:
    def read(stage: str, day: str) -> set[tuple[str, str | None]]:
        return {(ref.asset, ref.partition) for ref in lake.manifest(lake.find(f"{MODEL}/{stage}", day)).inputs}

    assert {("tables/flight_features", "2013-01-20")} == read("features", "2013-01-20")
    assert {("tables/flight_outcomes", f"2013-01-{n}") for n in range(16, 21)} == read("labels", "2013-01-20")
    assert {(f"{MODEL}/features", "2013-02-05"), (f"{MODEL}/model", None)} == read("predictions", "2013-02-05")
    assert {(f"{MODEL}/predictions", "2013-02-05"), (f"{MODEL}/model", None)} == read("drift", "2013-02-05")


def test_the_training_set_holds_the_windows_that_were_declared(lake: Lake) -> None:
    kept: TrainingSet = lake.get(lake.find(f"{MODEL}/training_set"), TrainingSet)
    windows = {window.split: window for window in kept.summary.windows}

    assert date(2013, 2, 10) == kept.summary.as_of
    assert (date(2013, 1, 28), date(2013, 2, 10)) == (windows["test"].first_day, windows["test"].last_day)
    assert (date(2013, 1, 21), date(2013, 1, 27)) == (windows["validation"].first_day, windows["validation"].last_day)
    assert windows["train"].rows > 15_000
    assert kept.rows.height == sum(window.rows for window in windows.values())
    assert kept.rows.select(pl.struct("flight_id").is_unique().all()).item()


def test_the_first_challenger_that_beats_the_baselines_is_promoted_with_reasons(lake: Lake) -> None:
    entries = log_of(lake)
    evaluation: Evaluation = lake.get(lake.find(f"{MODEL}/evaluation"), Evaluation)

    assert [(1, "promote")] == [(entry.number, entry.action) for entry in entries]
    assert entries[0].champion == entries[0].challenger == evaluation.summary.model_version
    assert entries[0].evaluation_version == lake.find(f"{MODEL}/evaluation").version
    assert entries[0].reasons
    assert entries[0].decided_by == "gate"


def test_the_model_is_better_than_chance_and_not_better_than_the_future_allows(lake: Lake) -> None:
    evaluation: Evaluation = lake.get(lake.find(f"{MODEL}/evaluation"), Evaluation)
    figure = evaluation.summary.metrics["roc_auc"]

    assert 0.6 < figure.value < 0.85
    assert figure.low <= figure.value <= figure.high


def test_every_feature_row_of_a_predicted_day_has_one_prediction_of_the_champion(lake: Lake) -> None:
    champion = log_of(lake)[-1].champion
    for day in PREDICTED:
        features: pl.DataFrame = lake.get(lake.find(f"{MODEL}/features", day), pl.DataFrame)
        predictions: pl.DataFrame = lake.get(lake.find(f"{MODEL}/predictions", day), pl.DataFrame)

        assert sorted(features["flight_id"]) == sorted(predictions["flight_id"])
        assert [champion] == predictions["model_version"].unique().to_list()
        assert predictions["score"].is_between(0, 1).all()


def test_drift_and_performance_of_a_day_are_of_its_predictions(lake: Lake) -> None:
    for day in PREDICTED:
        rows = lake.get(lake.find(f"{MODEL}/predictions", day), pl.DataFrame).height
        drift: DailyDrift = lake.get(lake.find(f"{MODEL}/drift", day), DailyDrift)
        performance: DailyPerformance = lake.get(lake.find(f"{MODEL}/performance", day), DailyPerformance)
        [drifted], [performed] = drift.summaries.versions, performance.summaries.versions

        assert (rows, day) == (drifted.rows, str(drifted.day))
        assert rows == performed.predictions
        assert 0 < performed.labelled <= rows


def test_the_card_is_one_file_about_the_champion(lake: Lake) -> None:
    ref = lake.find(f"{MODEL}/card")
    page = lake.get(ref, Card).html

    assert ["card.html", newest_name(lake, ref)] == lake.names(lake.directory(ref))
    assert log_of(lake)[-1].champion in page
    assert "<script src" not in page
    assert 'href="http' not in page


def test_no_file_of_the_lake_is_a_pickle(lake: Lake) -> None:
    kinds = {Path(name).suffix for name in files_of(lake)}

    assert {".parquet", ".json", ".txt", ".html"} == kinds
    assert [] == [name for name, data in files_of(lake).items() if data[:1] == b"\x80"]


# ---------------------------------------------------------------- how many runs


def test_a_first_run_has_one_part_up_to_the_champion_and_one_after_it(lake: Lake) -> None:
    stages = {stage: lake.manifest(lake.find(f"{MODEL}/{stage}")).run_id for stage in (*TRAINING, *CARD)}
    by_day = {stage: lake.manifest(lake.find(f"{MODEL}/{stage}", PREDICTED[0])).run_id for stage in MONITORING}
    made_from = {ref.asset: made.run_id for ref, made in lineage(lake, lake.find(f"{MODEL}/training_set")).items()}

    assert {stages["champion"]} == {*made_from.values(), *(stages[stage] for stage in TRAINING)}
    assert {stages["card"]} == {*by_day.values()}
    assert stages["champion"] != stages["card"]


# ---------------------------------------------------------------- a second pass


def test_a_step_enters_few_files_of_the_engine(flown: Path) -> None:
    found = files_of_steps(flown)

    assert {} == {name: (len(files), files) for name, files in found.items() if len(files) > MOST_FILES}
    assert min(map(len, found.values())) > 1


def test_a_second_pass_does_nothing(own_flown: Path, manifest: Mapping[str, Any]) -> None:
    before = files_of(Lake(str(own_flown)))

    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        lines = whole.run()

    assert [
        "raw: up to date",
        "tables: up to date",
        "features and labels: up to date",
        "training: up to date",
        "monitoring: up to date",
        "card: up to date",
    ] == lines
    assert before == files_of(Lake(str(own_flown)))


def test_the_same_training_set_gives_the_byte_identical_model_in_another_lake(
    own_flown: Path, manifest: Mapping[str, Any], lake: Lake
) -> None:
    for stage in ("importances", "tuning", "model", "evaluation", "champion"):
        shutil.rmtree(own_flown / "artifacts" / MODEL / stage)
    forget_promotions(own_flown)

    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        assert whole.materialize(*(f"{MODEL}/{stage}" for stage in ("importances", "tuning", "model"))).success

    again = Lake(str(own_flown))
    assert lake.find(f"{MODEL}/training_set") == again.find(f"{MODEL}/training_set")
    assert (
        lake.get(lake.find(f"{MODEL}/model"), Model).booster == again.get(again.find(f"{MODEL}/model"), Model).booster
    )
    assert lake.find(f"{MODEL}/model") == again.find(f"{MODEL}/model")


def test_explain_names_every_asset_that_is_stale_after_a_change_of_training_code_and_why(
    lake: Lake, manifest: Mapping[str, Any]
) -> None:
    assert [] == lines_of_stale(lake, manifest)

    with edited(**PART_INVERTED):
        found = lines_of_stale(lake, manifest)

    other = "has changed: training_set, importances, tuning, model, evaluation"
    assert [
        *(f"{MODEL}/{stage}: its code has changed" for stage in TRAINING if stage != "champion"),
        f"{MODEL}/champion: the code that trained or judged the champion {other}",
        *(f"{MODEL}/{stage} ({PREDICTED[0]} to {PREDICTED[-1]}): the code that trained or judged its champion {other}"
          for stage in MONITORING),
        f"{MODEL}/card: the code that trained or judged its champion {other}",
    ] == found  # fmt: skip


def stale_tables(lake: Lake, manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what a pass over all of the flow's assets would materialize."""
    with project(LakeResource(url=lake.url), flights_declared(), manifest=manifest) as whole:
        flow = whole.flow
        span = Span.of(whole.model, as_of=None, first=None, last=None)
        inputs = flow._inputs(span)
        wanted = upstream_of(flow.graph, inputs) | inputs
        late = out_of_date(flow.graph, flow.lake, flow._wanted(wanted, span))
    return {key.to_user_string(): [*found] for key, found in late.items()}


def test_a_changed_raw_day_makes_only_the_assets_that_read_it_out_of_date(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    lake = Lake(str(own_flown))
    changed = "2013-02-05"
    old = lake.find("raw/flights", changed)
    made = lake.manifest(old)
    rows: pl.DataFrame = lake.get(old, pl.DataFrame)
    put(lake, rows.head(-1), asset="raw/flights", partition=changed, code_version=made.code_version,
        parameters=made.parameters, inputs=made.inputs)  # fmt: skip

    late = stale_tables(lake, manifest)

    nodes = {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    reach = max(look_back_days(nodes["int_recent_delays"], nodes[name]) for name in ("int_flight_events",))
    assert [changed] == late["tables/stg_flights"]
    assert [changed] == late["tables/flight_outcomes"]
    assert [str(day) for day in days(date(2013, 2, 5), 1 + min(reach, 5))] == late["tables/flight_features"]
    assert late["tables/flight_features"] == late[f"{MODEL}/features"]
    assert changed == late[f"{MODEL}/labels"][0]
    assert {"raw/flights", "raw/weather", "tables/stg_weather", "tables/stg_airports"}.isdisjoint(late)


def test_a_changed_last_day_makes_only_the_same_day_out_of_date(own_flown: Path, manifest: Mapping[str, Any]) -> None:
    lake = Lake(str(own_flown))
    old = lake.find("raw/weather", "2013-02-10")
    made = lake.manifest(old)
    put(lake, lake.get(old, pl.DataFrame).head(-1), asset="raw/weather", partition="2013-02-10",
        code_version=made.code_version, parameters=made.parameters)  # fmt: skip

    assert {
        "tables/stg_weather": ["2013-02-10"],
        "tables/flight_features": ["2013-02-10"],
        f"{MODEL}/features": ["2013-02-10"],
    } == stale_tables(lake, manifest)


def test_a_gate_with_other_settings_does_not_judge_the_champion_against_itself(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    before = log_of(Lake(str(own_flown)))
    stricter = flights_declared(gate={"margin": 0.001, "min_rows": 600})

    with project(LakeResource(url=str(own_flown)), stricter, manifest=manifest) as whole:
        lines = whole.run()

    assert "training: champion" in lines
    assert before == log_of(Lake(str(own_flown)))


def test_a_first_model_that_the_gate_rejects_gets_its_summary_and_its_card(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    forget_promotions(own_flown)
    declared = flights_declared(gate={"min_rows": 10_000_000})

    with project(LakeResource(url=str(own_flown)), declared, manifest=manifest) as whole:
        lines = whole.run()

    lake = Lake(str(own_flown))
    rejected = log_of(lake)[-1]
    page = lake.get(lake.find(f"{MODEL}/card"), Card).html
    span = Span(date(2013, 2, 10), date(2013, 1, 28), date(2013, 2, 10))
    summary = summary_text(summarize(declared.model(MODEL), lake, span, seconds=1.0))
    assert ("reject", None) == (rejected.action, rejected.champion)
    assert ["there is no champion yet, so there are no predictions", "card: card"] == lines[-2:]
    assert rejected.challenger in page
    assert "Rejected" in page
    for line in (
        "  rows         train ", "  sources      raw/flights ", "  features     ",
        "               roc_auc  ", "  predictions  none: ",
        "roc_auc within day decides, mean over 14 values of day, each of which counts once",
        "precision, recall and lift: of the 10 % of each day with the highest scores",
        f"  ml-assets run {MODEL} ",
    ):  # fmt: skip
        assert line in summary
    assert f"{rejected.challenger[:12]} rejected (entry 1)" in summary


def test_a_changed_description_in_the_declaration_makes_only_the_card_out_of_date(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    features = flights_declared().models[0].features.model_dump() | {"left_out": {"gate": "known after departure"}}
    other = flights_declared(limits_of_use=["Not for flights over water."], features=features)

    with project(LakeResource(url=str(own_flown)), other, manifest=manifest) as whole:
        lines = whole.run()

    lake = Lake(str(own_flown))
    assert ["training: up to date", "monitoring: up to date", "card: card"] == lines[3:]
    page = lake.get(lake.find(f"{MODEL}/card"), Card).html
    assert "Not for flights over water." in page
    assert "<code>gate</code></th><td>known after departure</td>" in page


def test_another_as_of_day_trains_again_on_the_same_tables(own_flown: Path, manifest: Mapping[str, Any]) -> None:
    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        lines = whole.run(as_of="2013-02-08", first="2013-02-10", last="2013-02-10")

    lake = Lake(str(own_flown))
    kept: TrainingSet = lake.get(lake.find(f"{MODEL}/training_set"), TrainingSet)
    assert ["raw: up to date", "tables: up to date", "features and labels: up to date"] == lines[:3]
    assert "training: training_set, importances, tuning, model, evaluation, champion" == lines[3]
    assert date(2013, 2, 8) == kept.summary.as_of
    assert kept.rows["day"].max() <= date(2013, 2, 8)
    assert [1, 2] == [entry.number for entry in log_of(lake)]
    judged: Evaluation = lake.get(lake.find(f"{MODEL}/evaluation"), Evaluation)
    assert log_of(lake)[0].champion == judged.summary.champion_version
    assert judged.summary.against_champion is not None


def test_days_are_brought_up_to_date_without_training_though_the_declared_training_has_changed(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    before = Lake(str(own_flown))
    trained, promoted = before.find(f"{MODEL}/model"), log_of(before)
    lines: list[str] = []
    with project(
        LakeResource(url=str(own_flown)),
        flights_declared(
            split={"train_days": 20, "validation_days": 7, "test_days": 7},
            challengers={"shadow": True, "satisfies_gate": True},
        ),
        manifest=manifest,
    ) as whole:
        assert whole.flow.update(Span(date(2013, 1, 22), date(2013, 1, 21), date(2013, 1, 22)), lines.append)

    lake = Lake(str(own_flown))
    assert (trained, promoted) == (lake.find(f"{MODEL}/model"), log_of(lake))
    assert 2 == len(lake.newest(f"{MODEL}/predictions", ["2013-01-21", "2013-01-22"]))
    assert not [line for line in lines if line.startswith(("training", "shadow"))]
    assert [{}, {}] == [lake.newest(f"{MODEL}/{stage}") for stage in SHADOW]


def test_days_of_a_model_that_was_never_trained_are_brought_up_to_date_up_to_its_labels(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    for stage in (*TRAINING, *MONITORING, *CARD):
        shutil.rmtree(own_flown / "artifacts" / MODEL / stage)
    forget_promotions(own_flown)
    lines: list[str] = []
    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        assert whole.flow.update(Span(date(2013, 1, 22), date(2013, 1, 21), date(2013, 1, 22)), lines.append)

    assert "there is no model yet, so there are no predictions" == lines[-1]
    assert {} == Lake(str(own_flown)).newest(f"{MODEL}/card")


def test_labels_of_later_days_that_performance_reads_are_brought_up_to_date_too(
    flown: Path, manifest: Mapping[str, Any]
) -> None:
    with project(LakeResource(url=str(flown)), flights_declared(), manifest=manifest) as whole:
        wanted = whole.flow._inputs(Span(date(2013, 2, 5), date(2013, 2, 4), date(2013, 2, 5)))

    newest = {key.path[-1]: days[-1] for key, days in wanted.items()}
    assert {"features": "2013-02-05", "labels": "2013-02-09"} == newest


# ---------------------------------------------------------------- other tasks


@pytest.mark.parametrize(
    ("task", "name", "metric"),
    [("regression", "flight_minutes", "rmse"), ("multiclass", "flight_class", "multi_log_loss")],
)
def test_another_task_is_a_declaration_on_the_same_tables(
    own_flown: Path, manifest: Mapping[str, Any], task: Literal["regression", "multiclass"], name: str, metric: str
) -> None:
    lake = Lake(str(own_flown))
    tables = files_of(lake, "artifacts/tables")

    declared = flights_declared(
        task=task, days=Days(first=date(2013, 1, 20), last=FLOWN.last), gate={"margin": 0.0, "min_rows": 100},
        tuning={"metric": metric, "trials": 1, "max_rounds": 10, "early_stopping_rounds": 5},
    )  # fmt: skip
    with project(LakeResource(url=str(own_flown)), declared, manifest=manifest) as whole:
        lines = whole.run(first=PREDICTED[-1])
        # A week with a blizzard is too short for the gate to promote these: a person does.
        log, trained = PromotionLog(lake, name), lake.find(f"{name}/model").version
        number = len(log.entries()) + 1
        log.append(promotion(number, champion=trained, model=name), number=number)
        whole.run(first=PREDICTED[-1])

    assert ["raw: up to date", "tables: up to date"] == lines[:2]
    assert tables == files_of(lake, "artifacts/tables")
    evaluation: Evaluation = lake.get(lake.find(f"{name}/evaluation"), Evaluation)
    predictions: pl.DataFrame = lake.get(lake.find(f"{name}/predictions", PREDICTED[-1]), pl.DataFrame)
    assert task == evaluation.summary.task
    assert metric in evaluation.summary.metrics
    assert [log_of(lake, name)[-1].champion] == predictions["model_version"].unique().to_list()
    assert predictions["score"].is_not_null().all()
    assert name in lake.get(lake.find(f"{name}/card"), Card).html


# ---------------------------------------------------------------- which days


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (None, (date(2013, 2, 10), date(2013, 1, 28), date(2013, 2, 10))),
        ("2013-02-01", (date(2013, 2, 1), date(2013, 1, 19), date(2013, 2, 1))),
        ("2013-01-22", (date(2013, 1, 22), date(2013, 1, 9), date(2013, 1, 22))),
    ],
)
def test_a_span_is_by_default_the_newest_day_and_its_test_window(
    as_of: str | None, expected: tuple[date, date, date]
) -> None:
    assert Span(*expected) == Span.of(flights_declared().models[0], as_of=as_of, first=None, last=None)


def test_a_span_without_windows_is_by_default_the_newest_day() -> None:
    model = flights_declared().models[0]
    random = model.model_copy(update={"split": Split(by="random")})

    newest = date(2013, 2, 10)
    assert Span(newest, newest, newest) == Span.of(random, as_of=None, first=None, last=None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"as_of": "yesterday"}, r"--as-of is 'yesterday'; expected a day such as 2013-12-31"),
        ({"as_of": "2014-01-01"}, r"--as-of 2014-01-01 is outside the days of flight_delay: 2013-01-01 to 2013-02-10"),
        (
            {"as_of": "2013-01-21"},
            (
                r"--as-of 2013-01-21 leaves flight_delay no day to train on: 7 days of validation and 14 of test come "
                r"after the first one, 2013-01-01\. The earliest is 2013-01-22"
            ),
        ),
        ({"first": "2012-12-31"}, r"--from 2012-12-31 is outside the days"),
        ({"last": "2013-02-11"}, r"--to 2013-02-11 is outside the days"),
        ({"first": "2013-02-05", "last": "2013-02-01"}, r"--to 2013-02-01 is before --from 2013-02-05; swap them"),
    ],
)
def test_days_that_are_no_valid_span_are_reported_with_what_was_expected(given: dict[str, str], message: str) -> None:
    model = flights_declared().models[0]

    with pytest.raises(DataError, match=message):
        Span.of(model, **{"as_of": None, "first": None, "last": None, **given})
