"""Challengers in shadow: which are scored, how they compare with the champion, and what the gate makes of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Model, Tuning
from ml_assets.contracts.decisions import Promotion, RuleRecord
from ml_assets.contracts.shadow import Shadow
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import with_golden_rows
from ml_assets.models.champions import serving_champion
from ml_assets.models.evaluation import verdict_on
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shadow import challengers_in_shadow
from ml_assets.models.shadow_comparison import compare_in_shadow, judge_again
from ml_assets.models.training import fit_model
from ml_assets.models.training_rows import training_set_in
from ml_assets.stages.shadow import shadow
from ml_assets.stages.shadow_predictions import shadow_predictions
from tests.builders import files_of, promotion
from tests.notebook.conftest import by_day
from tests.stages.shop import FIRST, Trained, context_of, feature_rows, label_rows, plan_of

TRAINED_ON = FIRST + timedelta(days=34)
NEXT = TRAINED_ON + timedelta(days=1)
Versions = Mapping[str, str]


def shadowing(**changes: object) -> ModelPlan:
    """Return the plan of a model whose challengers are in shadow, compared on seven days."""
    return plan_of(challengers={"shadow": True, "days": 7, **changes})


@pytest.fixture(scope="module")
def built(plan: ModelPlan, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Versions]:
    """Return a lake with models of other features, of which `all` is good; nothing is decided."""
    lake = Lake(str(tmp_path_factory.mktemp("shadow")))
    lake.put_each("returns/features", by_day(feature_rows()))
    lake.put_each("returns/labels", {str(FIRST): (label_rows().clear(), Origin()), **by_day(label_rows())})
    most_rows = plan.declaration.split.model_copy(update={"validation_days": 3, "test_days": 2})
    earlier = training_set_in(lake, plan, TRAINED_ON, split=most_rows)

    def version_of(*features: str) -> str:
        best = trained.tuning.best.model_copy(update={"features": features})
        model = with_golden_rows(fit_model(plan, earlier, Tuning(trained.tuning.trials, best)), earlier)
        return lake.put("returns/model", None, model, Origin()).ref.version

    names = {"shop": ["shop"], "items": ["items"], "weight": ["weight kg"], "all": ["shop", "items", "weight kg"]}
    return lake, {name: version_of(*features) for name, features in names.items()}


@dataclass(frozen=True)
class Scene:
    """A copy of that lake, whose log a test writes."""

    lake: LakeResource
    of: Versions

    def judge(self, action: str, name: str, *, broken: str = "", at: date = TRAINED_ON) -> None:
        """Add an entry of the gate about a model."""
        log = plan_of().promotion_log(self.lake.connect())
        entries = log.entries()
        version, number = self.of[name], len(entries) + 1
        served = version if action in ("promote", "rollback") else entries[-1].champion
        rules = (RuleRecord(name=broken, holds=False, sentence="broken"),) if broken else ()
        entry = promotion(number, champion=served, model="returns").model_copy(
            update={
                "action": action, "challenger": version, "rules": rules, "attempt": 1,
                "test_days": (at - timedelta(days=9), at),
            }
        )  # fmt: skip
        log.append(entry, number=number)

    def score(self, plan: ModelPlan, first: date = NEXT, count: int = 14) -> Mapping[str, pl.DataFrame]:
        """Materialize the predictions in shadow of some days."""
        rows = feature_rows()
        found: Any = shadow_predictions(plan)(
            context_of(first, first + timedelta(days=count - 1)), rows, ml_assets_lake=self.lake
        )
        self.lake.connect().put_each("returns/shadow_predictions", {day: (it, Origin()) for day, it in found.items()})
        return found

    def compare(self, plan: ModelPlan) -> Shadow:
        """Materialize the comparison."""
        found: Any = shadow(plan)(context_of(), ml_assets_lake=self.lake)
        return found

    def entries(self) -> list[Promotion]:
        return plan_of().promotion_log(self.lake.connect()).entries()


@pytest.fixture
def scene(built: tuple[Lake, Versions], lake: LakeResource) -> Scene:
    shutil.copytree(built[0].url, lake.connect().url, dirs_exist_ok=True)
    return Scene(lake, built[1])


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of pairs of a positive and a negative row in the right order; ties count as half."""
    gaps = scores[truth][:, None] - scores[~truth][None, :]
    return float(((gaps > 0) + (gaps == 0) / 2).mean())


def truths(*days: date) -> pl.DataFrame:
    """Return the feature rows of some days with their labels."""
    rows = feature_rows().filter(pl.col("day").is_in(days))
    return rows.join(label_rows().select("order_id", "is_returned"), on="order_id", maintain_order="left")


# ---------------------------------------------------------------- scores


def test_rejected_and_pending_challengers_score_each_day_and_the_manifest_records_champion_log_and_versions(
    scene: Scene,
) -> None:
    for action, name in (("promote", "shop"), ("reject", "weight"), ("request_approval", "all")):
        scene.judge(action, name)

    found = scene.score(shadowing(), count=2)

    lake = scene.lake.connect()
    for day, rows in found.items():
        features = feature_rows().filter(pl.col("day") == date.fromisoformat(day))
        for name in ("weight", "all"):
            model = lake.get(ArtifactRef(asset="returns/model", version=scene.of[name]), Model)
            own = rows.filter(pl.col("model_version") == scene.of[name])
            assert features["order_id"].to_list() == own["order_id"].to_list()
            assert predict(model, features)["score"].to_list() == own["score"].to_list()
        assert 2 * features.height == rows.height
    notes = scene.lake.ledger().notes
    assert scene.of["shop"] == notes["champion"]
    assert [scene.of["all"], scene.of["weight"]] == notes["challengers"]
    head = plan_of().promotion_log(lake).inspect().head
    assert head is not None
    assert head.model_dump() == notes["promotion_log_entry"]


def test_the_newest_challengers_are_in_shadow_and_no_more_than_declared(scene: Scene) -> None:
    for action, name in (("promote", "shop"), ("reject", "weight"), ("reject", "items"), ("reject", "all")):
        scene.judge(action, name)

    [rows] = scene.score(shadowing(most=1), count=1).values()

    assert [scene.of["all"]] == rows["model_version"].unique().to_list()


@pytest.mark.parametrize("last", ["promote", "rollback"])
def test_after_a_promotion_or_a_rollback_there_is_no_challenger_and_the_artifact_is_empty_with_all_columns(
    scene: Scene, last: str
) -> None:
    plan = shadowing()
    for action, name in (("promote", "shop"), ("promote", "weight"), ("reject", "all")):
        scene.judge(action, name)
    before = scene.score(plan, count=1)[str(NEXT)]
    scene.judge(last, "shop")

    [rows] = scene.score(plan, count=1).values()

    assert (before.schema, 0) == (rows.schema, rows.height)
    report = scene.compare(plan)
    assert () == report.challengers
    assert "No challenger was rejected, or waits for approval, since the last promotion." == report.sentence


def test_a_challenger_whose_golden_rows_have_other_scores_is_left_out_with_the_reason(scene: Scene) -> None:
    opened = scene.lake.connect()
    good: Model = opened.get(ArtifactRef(asset="returns/model", version=scene.of["weight"]), Model)
    assert good.golden is not None
    golden = good.golden.with_columns(pl.col("score") / 2)
    changed = opened.put("returns/model", None, replace(good, golden=golden), Origin()).version
    scene = replace(scene, of={**scene.of, "changed": changed})
    for action, name in (("promote", "shop"), ("reject", "all"), ("reject", "changed")):
        scene.judge(action, name)
    plan = shadowing()

    [rows] = scene.score(plan, count=1).values()

    assert [scene.of["all"]] == rows["model_version"].unique().to_list()
    left_out = scene.lake.ledger().notes["left_out_challengers"]
    assert isinstance(left_out, dict)
    assert "golden row" in left_out[changed]
    assert f"{changed} is left out: " in scene.compare(plan).sentence


# ---------------------------------------------------------------- comparisons


def test_a_challenger_is_compared_on_the_same_rows_of_the_first_days_that_neither_was_trained_on(scene: Scene) -> None:
    scene.judge("promote", "items")
    scene.judge("reject", "shop")
    plan = shadowing()
    scene.score(plan, first=TRAINED_ON - timedelta(days=3))
    before = files_of(scene.lake.connect(), "promotions")

    [found] = scene.compare(plan).challengers

    rows = truths(*(TRAINED_ON + timedelta(days=n) for n in range(1, 8)))
    lake, truth = scene.lake.connect(), rows["is_returned"].to_numpy()
    models = [lake.get(ArtifactRef(asset="returns/model", version=scene.of[it]), Model) for it in ("shop", "items")]
    challenger, champion = (auc(predict(it, rows)["score"].to_numpy(), truth) for it in models)
    assert found.comparison is not None
    assert (NEXT, TRAINED_ON + timedelta(days=7)) == found.days
    assert (rows.height, 7) == (found.comparison.rows, found.scored_days)
    assert pytest.approx([challenger, champion]) == [found.comparison.challenger, found.comparison.other]
    assert pytest.approx(challenger - champion) == found.comparison.difference.value
    assert ("not better", 1) == (found.verdict, found.attempt)
    assert before == files_of(lake, "promotions")


def test_a_challenger_that_is_shown_to_be_better_has_that_verdict(scene: Scene) -> None:
    scene.judge("promote", "shop")
    scene.judge("reject", "all")
    plan = shadowing()
    scene.score(plan)

    [found] = scene.compare(plan).challengers

    assert "better" == found.verdict
    assert found.sentence.startswith(f"Is not worse than champion {scene.of['shop']} by more than the margin")


@pytest.mark.parametrize(("count", "days"), [(6, 6), (14, 14)])
def test_without_enough_days_with_matured_labels_nothing_is_measured(scene: Scene, count: int, days: int) -> None:
    """There are 15 days after the training, of which the label of the last is known a day later."""
    scene.judge("promote", "shop")
    scene.judge("reject", "all")
    plan = shadowing(days=20)
    scene.score(plan, count=count)

    [found] = scene.compare(plan).challengers

    assert ("not judged", days, None, None) == (found.verdict, found.scored_days, found.comparison, found.attempt)
    assert found.sentence == (
        f"Too few days: {days} days after {TRAINED_ON}, the last as-of day of the compared models, have its scores and "
        "matured labels; a comparison has 20."
    )


def test_a_challenger_on_too_few_rows_is_not_judged(scene: Scene) -> None:
    scene.judge("promote", "shop")
    scene.judge("reject", "all")
    plan = plan_of(challengers={"shadow": True, "days": 7}, gate={"min_rows": 281})
    scene.score(plan)

    [found] = scene.compare(plan).challengers

    assert ("not judged", "Too few rows: 280; the gate needs 281.") == (found.verdict, found.sentence)


# ---------------------------------------------------------------- the gate


def test_a_challenger_that_passes_is_promoted_once_with_its_cause_and_then_nothing_is_in_shadow(scene: Scene) -> None:
    scene.judge("promote", "shop")
    scene.judge("reject", "all")
    plan = shadowing(satisfies_gate=True, days=14)
    scene.score(plan)

    report = scene.compare(plan)
    again = scene.compare(plan)

    assert scene.of["all"] == report.promoted
    assert (None, ()) == (again.promoted, again.challengers)
    *_, entry = scene.entries()
    assert 3 == len(scene.entries())
    assert ("promote", scene.of["all"], "shadow", "gate") == (
        entry.action, entry.champion, entry.cause, entry.decided_by,
    )  # fmt: skip
    assert (1, (NEXT, TRAINED_ON + timedelta(days=14))) == (entry.attempt, entry.test_days)
    assert {"rows", "contract", "champion"} <= {rule.name for rule in entry.rules if rule.holds}


def test_a_challenger_that_does_not_pass_stays_as_it_is_and_the_gates_reasons_are_reported(scene: Scene) -> None:
    scene.judge("promote", "shop")
    scene.judge("request_approval", "all")
    challengers = {"shadow": True, "days": 7, "satisfies_gate": True}
    plan = plan_of(challengers=challengers, gate={"min_rows": 50, "max_size_mib": 0.001})
    scene.score(plan)

    report = scene.compare(plan)

    [found] = report.challengers
    assert (None, None, "better") == (report.promoted, report.waits, found.verdict)
    [reason] = found.refused
    assert reason.startswith("The size of the model's text is")
    assert 2 == len(scene.entries())


def test_where_a_person_approves_the_newest_challenger_that_passes_waits_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ml_assets.models.shadow_comparison.verdict_on", lambda *a, **k: replace(verdict_on(*a, **k), promote=True)
    )
    scene.judge("promote", "shop")
    scene.judge("reject", "items")
    scene.judge("reject", "all")
    challengers = {"shadow": True, "satisfies_gate": True}
    plan = plan_of(challengers=challengers, gate={"min_rows": 50, "approval": "person"})
    scene.score(plan)

    report = scene.compare(plan)
    again = scene.compare(plan)

    assert (None, scene.of["all"]) == (report.promoted, report.waits)
    assert (report.waits, report.challengers) == (again.waits, again.challengers)
    assert [2, 1] == [it.attempt for it in again.challengers]
    assert ["promote", "reject", "reject", "request_approval"] == [it.action for it in scene.entries()]


def test_nothing_is_promoted_if_the_champion_has_changed_since_the_comparison(scene: Scene) -> None:
    scene.judge("promote", "shop")
    scene.judge("reject", "all")
    plan = shadowing()
    scene.score(plan)
    ledger = scene.lake.ledger()
    champion = serving_champion(ledger, plan)
    compared = compare_in_shadow(ledger, plan, champion, challengers_in_shadow(ledger, plan, champion))
    scene.judge("promote", "items")

    [result], entry = judge_again(ledger, plan, compared, run_id="r")

    assert (None, ("The champion or the anchor has changed since the comparison.",)) == (entry, result.refused)
    assert 3 == len(scene.entries())
