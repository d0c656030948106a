"""Several models from one declaration, from raw rows to combined predictions.

What may be declared: see tests/declaration/test_for_each.py.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl
import pytest

from ml_assets.cli.flow.summary import combined_text, summarize_combined
from ml_assets.components.declared import Model as ModelComponent
from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict
from ml_assets.orchestration.flow import Flow, Span
from ml_assets.orchestration.groups import Group, update_groups
from ml_assets.orchestration.runs import InProcess
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_manifest
from tests.builders import nothing_rendered, project, promotion
from tests.logic.gate import auc
from tests.orders_of_a_shop import FILES, declared, prepare

PLACE = "Łódź"
VALUES = (PLACE, "Lausanne")
"""Two places. Lausanne has no order; the orders of Zürich and Genève have no model of their own."""


class Ran(NamedTuple):
    """The lake after a run of all models, with what each reported, and the rows combined before and after a promotion.

    Attributes:
        lake: the lake.
        whole: the declarations, with a model by hand of the same rows as the first value's model.
        span: the days of the run.
        lines: by model, what its run logged.
        too_few: by model, why none was trained.
        pooled_only: the combined predictions while no other model has a champion.
        combined: those after the first value's challenger was promoted.
        groups: by asset, the group of the sensor that keeps assets up to date.
    """

    lake: Lake
    whole: Declared
    span: Span
    lines: dict[str, list[str]]
    too_few: dict[str, str]
    pooled_only: pl.DataFrame
    combined: pl.DataFrame
    groups: dict[str, Group]

    def one(self, asset: str, kind: type) -> object:
        """Return the newest artifact of an asset."""
        return self.lake.get(self.lake.find(asset), kind)

    def rows(self, asset: str) -> pl.DataFrame:
        """Return all rows of an asset by day."""
        return rows_of(self.lake, asset)


def rows_of(lake: Lake, asset: str) -> pl.DataFrame:
    refs = lake.newest(asset, lake.partitions(asset))
    return pl.concat(lake.get_each([refs[day] for day in sorted(refs)], pl.DataFrame))


def by_hand(folder: Path) -> None:
    """Add a feature table with the rows of one place, as one would write it without `for_each`."""
    models = folder / "dbt" / "models"
    contract = FILES["models/_models.yml"].partition("  - name: order_outcomes")[0]
    (models / "_by_hand.yml").write_text(contract.replace("order_features", "by_hand"), encoding="utf-8")
    # An order is known when it is made, so the leak test would find a prediction before that.
    sql = FILES["models/order_features.sql"].replace("moment - interval '1 hour'", "moment")
    (models / "order_features.sql").write_text(sql, encoding="utf-8")
    (models / "by_hand.sql").write_text(f"{sql} and orders.place = '{PLACE}'\n", encoding="utf-8")
    prepare_manifest(folder / "dbt")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("shop")
    prepare(folder)
    by_hand(folder)
    whole = declared(folder / "orders.csv", 1)
    given = whole.models[0].model_dump(mode="json", exclude={"for_each", "objective", "intervals", "budget"})
    given["leak_test"] = {"samples": 2}
    base = ModelDeclaration.model_validate({**given, "for_each": {"column": "place", "values": VALUES}})
    hand = ModelDeclaration.model_validate(
        {**given, "name": "hand", "features": {**given["features"], "table": "by_hand"}}
    )
    whole = dataclasses.replace(whole, models=(*base.members, hand))
    lake, dbt = LakeResource(url=str(folder / "lake")), folder / "dbt"
    lines: dict[str, list[str]] = {}
    with nothing_rendered(), project(lake, whole, manifest=read_manifest(dbt), project_dir=dbt) as found:
        runs, opened = InProcess(found.defs, found.instance), lake.connect()
        flows = {it.name: Flow(found.defs, whole, it, opened, runs) for it in whole.models}
        span = Span.of(base, as_of=None, first=None, last=None)

        def done(run: Callable[[Span, Callable[[str], None]], bool], name: str) -> None:
            assert run(span, lines.setdefault(name, []).append), found.log.getvalue()

        for name, flow in flows.items():
            done(flow.run, name)
        done(flows["returns"].combine, "combined")
        pooled_only = rows_of(opened, "returns/combined_predictions")
        log = PromotionLog(opened, "returns_odz")
        challenger = log.entries()[-1].challenger
        log.append(promotion(2, champion=challenger, model="returns_odz"), number=2)
        done(flows["returns"].combine, "combined")
        done(flows["returns"].combine, "combined")
        groups = update_groups(flows["returns"].graph, [*flows])
    too_few = {name: flow.too_few for name, flow in flows.items()}
    combined = rows_of(opened, "returns/combined_predictions")
    by_asset = {key.to_user_string(): group for key, group in groups.items()}
    return Ran(opened, whole, span, lines, too_few, pooled_only, combined, by_asset)


def test_the_features_of_a_model_are_the_rows_with_its_value(ran: Ran) -> None:
    pooled, own = ran.rows("returns/features"), ran.rows("returns_odz/features")

    assert pooled.filter(pl.col("place") == PLACE).equals(own)
    assert {"column": "place", "value": PLACE} == ran.lake.manifest(
        ran.lake.newest("returns_odz/features")["2024-03-01"]
    ).parameters["segment"]
    assert "segment" not in ran.lake.manifest(ran.lake.newest("returns/features")["2024-03-01"]).parameters


def test_a_model_of_one_value_equals_one_by_hand_on_a_table_with_a_filter(ran: Ran) -> None:
    own, hand = (ran.one(f"{name}/training_set", TrainingSet) for name in ("returns_odz", "hand"))
    models = [ran.one(f"{name}/model", Model) for name in ("returns_odz", "hand")]

    assert isinstance(own, TrainingSet)
    assert isinstance(hand, TrainingSet)
    assert own.rows.equals(hand.rows)
    assert 1 == len({it.booster for it in models if isinstance(it, Model)})


def test_the_champion_of_all_rows_is_a_baseline_on_the_same_test_rows(ran: Ran) -> None:
    evaluation = ran.one("returns_odz/evaluation", Evaluation)
    frozen = ran.one("returns_odz/training_set", TrainingSet)
    assert isinstance(evaluation, Evaluation)
    assert isinstance(frozen, TrainingSet)
    test = frozen.part("test").join(ran.rows("returns/predictions").select("order_id", "score"), on="order_id")
    expected = auc(test["is_returned"].to_numpy(), test["score"].to_numpy())

    baseline = next(it for it in evaluation.summary.baselines if it.name == "pooled model returns")
    verdict = PromotionLog(ran.lake, "returns_odz").entries()[0]
    rule = next(it for it in verdict.rules if it.name == "baseline pooled model returns")
    champion = PromotionLog(ran.lake, "returns").entries()[-1].champion
    assert test.height == evaluation.summary.rows
    assert pytest.approx(expected) == baseline.metrics["roc_auc"]
    assert champion == evaluation.summary.pooled_version
    assert not rule.holds
    assert "Is not shown to beat the baseline 'pooled model returns'" in rule.sentence
    assert "reject" == verdict.action


def test_a_model_of_a_declaration_without_for_each_has_no_such_baseline(ran: Ran) -> None:
    evaluation = ran.one("hand/evaluation", Evaluation)

    assert isinstance(evaluation, Evaluation)
    assert ["constant", "shallow tree"] == [it.name for it in evaluation.summary.baselines]
    assert None is evaluation.summary.pooled_version


def test_a_value_without_rows_is_not_trained_and_the_run_says_why(ran: Ran) -> None:
    sentence = (
        "returns_lausanne: too few rows: 0 rows with place = 'Lausanne' in the features of 2024-03-26 to 2024-03-30, "
        "and the gate needs 50 test rows. No model is trained; returns scores them."
    )

    assert {"returns": "", "returns_odz": "", "returns_lausanne": sentence, "hand": ""} == ran.too_few
    assert sentence == ran.lines["returns_lausanne"][-1]
    assert [] == PromotionLog(ran.lake, "returns_lausanne").entries()


def test_the_model_of_all_rows_scores_every_row_while_no_other_has_a_champion(ran: Ran) -> None:
    pooled = ran.rows("returns/predictions").select("order_id", "score").sort("order_id")

    assert ["returns"] == ran.pooled_only["model_name"].unique().to_list()
    assert pooled.equals(ran.pooled_only.select("order_id", "score").sort("order_id"))


def test_each_row_is_scored_by_the_champion_of_its_value_or_else_of_all_rows(ran: Ran) -> None:
    model = ran.one("returns_odz/model", Model)
    assert isinstance(model, Model)
    features = ran.rows("returns/features").filter(pl.col("place") == PLACE)
    own = features.select("order_id").with_columns(predict(model, features)["score"])
    others = ran.rows("returns/predictions").select("order_id", "score")
    of_place, rest = (ran.combined.filter(it) for it in (pl.col("place") == PLACE, pl.col("place") != PLACE))

    assert (["returns_odz"], ["returns"]) == (
        of_place["model_name"].unique().to_list(), rest["model_name"].unique().to_list(),
    )  # fmt: skip
    for found, expected in ((of_place, own), (rest, others)):
        both = found.select("order_id", "score").join(expected, on="order_id")
        assert found.height == both.height
        assert both["score"].to_list() == both["score_right"].to_list()
    assert others.height == ran.combined.height
    versions = {name: PromotionLog(ran.lake, name).entries()[-1].champion for name in ("returns", "returns_odz")}
    assert versions == dict(ran.combined.group_by("model_name").agg(pl.col("model_version").first()).iter_rows())


def test_combined_predictions_are_out_of_date_once_another_champion_would_score_them(ran: Ran) -> None:
    [first, second, third] = [it for it in ran.lines["combined"] if it.startswith("combined predictions")]

    assert first == second == "combined predictions: combined_predictions over 2024-03-26 to 2024-03-30"
    assert "combined predictions: up to date" == third


def test_the_sensor_combines_new_days_and_leaves_those_of_earlier_champions(ran: Ran) -> None:
    expected = Group("combined predictions", "returns", is_exact=True)

    assert {"returns/combined_predictions": expected} == {
        asset: group for asset, group in ran.groups.items() if asset.endswith("/combined_predictions")
    }


def test_the_component_of_a_file_declares_the_assets_of_all_its_models(ran: Ran) -> None:
    component = ModelComponent(ran.whole.models[0])

    assert [True, True, True, False] == [
        component.declares(dg.AssetKey([name, "model"]))
        for name in ("returns", "returns_odz", "returns_lausanne", "hand")
    ]


def test_the_summary_counts_rows_by_model_and_those_of_values_without_one(ran: Ran) -> None:
    text = combined_text(summarize_combined(ran.lake, ran.whole.models[0], ran.span))

    assert (
        "\nreturns/combined_predictions for 2024-03-26 to 2024-03-30\n"
        "  rows         200 by returns, 100 by returns_odz\n"
        "               of which 200 have a value without a model of its own"
    ) == text
