"""A declared estimator through the stages: what is trained, stored, shown, compared and refused."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Model, Tuning
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.estimators.linear import Linear
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.pages.card import render_card
from ml_assets.logic.pages.card_input import CardInput
from ml_assets.logic.pages.card_rows import lineage_rows
from ml_assets.logic.plots.training import importance_plot
from ml_assets.logic.tables.folds import held_out
from ml_assets.logic.training.booster import predict
from ml_assets.models.champions import why_it_cannot_serve
from ml_assets.models.evaluation import Versioned, _model_of_recipe, measure_challenger, verdict_on
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import fit_model, model_of_fold, training_set_as_of
from ml_assets.notebook.champion import load_champion
from ml_assets.provenance.code import covered
from ml_assets.stages.model import model
from ml_assets.stages.predictions import predictions
from ml_assets.stages.tuning import TuningConfig, tuning
from tests.builders import promotion
from tests.logic.pages.test_card import lean
from tests.own_estimators import Means
from tests.page import Page
from tests.stages.shop import DAYS, FIRST, Trained, context_of, feature_rows, label_rows, plan_of

LINEAR = "ml_assets.estimators.linear.Linear"
MEANS = "tests.own_estimators.Means"
LAST = FIRST + timedelta(days=DAYS - 1)


def declared(estimator: str = LINEAR, **changes: Any) -> ModelPlan:
    return plan_of(training={"estimator": estimator, "threads": 1}, **{"tuning": {"trials": 3}, **changes})


@pytest.fixture(scope="module")
def linear() -> ModelPlan:
    return declared()


@pytest.fixture(scope="module")
def staged(linear: ModelPlan, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Tuning and model of the stages, with the metadata of the model."""
    lake = LakeResource(url=str(tmp_path_factory.mktemp("lake")))
    tuned = tuning(linear)(context_of(), TuningConfig(), trained.training_set, trained.importances, ml_assets_lake=lake)
    context = context_of()
    made = model(linear)(context, trained.training_set, tuned, ml_assets_lake=lake)
    return {"tuning": tuned, "model": made, "metadata": dict(context.get_output_metadata("result"))}


@pytest.fixture(scope="module")
def evaluated(linear: ModelPlan, staged: Mapping[str, Any], trained: Trained) -> Evaluation:
    return measure_challenger(
        linear, trained.training_set, Versioned("new", staged["model"]), champion=Versioned("old", trained.model),
        anchor=None,
    )  # fmt: skip


def test_the_stages_search_its_space_and_train_it(staged: Mapping[str, Any], trained: Trained) -> None:
    tuned: Tuning = staged["tuning"]
    made: Model = staged["model"]

    assert (3, LINEAR, ["alpha"]) == (tuned.trials.height, tuned.best.estimator, [*tuned.best.parameters])
    assert (tuned.best.parameters, LINEAR) == (made.spec.parameters, made.spec.estimator)
    assert {LINEAR} == {made.spec.estimator, staged["metadata"]["estimator"]}
    assert "rounds" not in staged["metadata"]
    assert trained.importances.summary.selected == tuple(it.name for it in made.spec.features)
    assert 1 == pytest.approx(sum(made.spec.weights.values()))
    assert "items" == max(made.spec.weights, key=lambda name: made.spec.weights[name])


def test_it_is_compared_with_a_champion_of_lightgbm_and_judged(
    linear: ModelPlan, staged: Mapping[str, Any], evaluated: Evaluation
) -> None:
    found = evaluated.summary

    assert found.against_champion is not None
    assert found.metrics["roc_auc"].value > 0.9
    verdict = verdict_on(linear, evaluated, staged["model"], (), entries=())
    assert verdict.promote, verdict.reasons


def test_as_champion_its_predictions_are_those_of_its_text_in_batch_and_in_a_service(
    linear: ModelPlan, staged: Mapping[str, Any], tmp_path: Any
) -> None:
    lake = Lake(str(tmp_path))
    version = lake.put("returns/model", None, staged["model"], Origin()).version
    PromotionLog(lake, "returns").append(promotion(1, champion=version, model="returns"), number=1)
    rows = feature_rows().filter(pl.col("day") == LAST)

    champion = load_champion("returns", lake=lake)
    *_, batch = predictions(linear)(context_of(LAST), rows, ml_assets_lake=LakeResource(url=lake.url))

    assert staged["model"].estimator == champion.model.estimator
    assert champion.model.booster is None
    assert_frame_equal(predict(staged["model"], rows).select("score"), champion.predict(rows), check_exact=True)
    assert_frame_equal(batch.value[str(LAST)].select("score"), champion.predict(rows), check_exact=True)


def test_a_model_without_its_text_is_refused(staged: Mapping[str, Any]) -> None:
    with pytest.raises(ContractError, match=f"model 'returns' has no text of {LINEAR}. Restore the artifact"):
        predict(replace(staged["model"], estimator=None), feature_rows())


def test_the_card_shows_what_is_not_measured(staged: Mapping[str, Any], trained: Trained) -> None:
    made = staged["model"]
    card: CardInput = lean(
        name="returns", training_set=trained.training_set.summary, model=made.spec, tuning=staged["tuning"],
        importances=trained.importances, model_importances=made.importances,
    )  # fmt: skip
    page = Page(render_card(card))
    text = " ".join(page.text.split())

    assert f"SHAP is not measured: only LightGBM has it, and {LINEAR} trained the model." in text
    listed = trained.training_set.summary.features
    assert len(listed) + 1 == page.sections["features"].count("not measured")
    rows = lineage_rows(card)
    assert [("Estimator", LINEAR), ("Rounds", "not measured: only LightGBM has them")] == rows[5:7]
    assert "a quick LightGBM model of" in text


def test_the_plot_of_its_importances_has_no_shap() -> None:
    table = pl.DataFrame(
        {
            "feature": ["items"], "shap_share": [None], "gain_share": [None], "permutation": [0.2],
            "permutation_std": [0.01], "rank": [1],
        },
        schema_overrides={"shap_share": pl.Float64, "gain_share": pl.Float64},
    )  # fmt: skip
    drawn = importance_plot(table, "roc_auc")

    assert "items has the largest permutation importance" in drawn
    assert "SHAP" not in drawn


def test_on_folds_a_champion_of_another_estimator_is_trained_by_its_own(
    staged: Mapping[str, Any],
) -> None:
    folds = plan_of(split={"by": "random", "folds": 3, "repeats": 2}, gate={}, tuning={"trials": 1, "max_rounds": 20})
    frozen = training_set_as_of(folds, feature_rows(), label_rows(), as_of=LAST)
    fold = next(iter(held_out(frozen)))
    spec = staged["model"].spec
    again = _model_of_recipe(folds, fold.others, spec)
    assert (LINEAR, spec.parameters, True) == (again.spec.estimator, again.spec.parameters, again.spec.refit)
    assert None is model_of_fold(folds, fold.others).spec.estimator


def test_on_folds_a_champion_has_what_its_estimator_chose_and_all_parameters_of_its_own() -> None:
    seeded = "tests.own_estimators.Seeded"
    folds = plan_of(
        training={"estimator": seeded, "threads": 1}, split={"by": "random", "folds": 3, "repeats": 2}, gate={},
        tuning={"trials": 1},
    )  # fmt: skip
    frozen = training_set_as_of(folds, feature_rows(), label_rows(), as_of=LAST)
    fold = next(iter(held_out(frozen)))
    chosen = {"shrink": 0.25, "steps": 143, "kind": "mean", "seed": 3, "device_type": "abacus"}
    spec = model_of_fold(folds, fold.others).spec.model_copy(update={"parameters": chosen})
    Means.calls.clear()

    again = _model_of_recipe(folds, fold.others, spec)

    assert len(fold.others.part("validation")) != 143  # which the estimator would choose
    (_, validation, context) = Means.calls[-1]
    assert (None, chosen, chosen) == (validation, context.parameters, again.spec.parameters)


def test_its_code_belongs_to_the_stages_that_fit_or_score_it() -> None:
    plan = declared(MEANS)

    for stage in ("tuning", "model", "evaluation", "predictions"):
        assert ("tests.own_estimators", "Means") in covered(plan.own_functions(stage))
    assert not plan.own_functions("importances")
    versions = [
        {*stage(it).code_versions_by_key.values()}
        for stage in (tuning, model, predictions)
        for it in (plan, plan_of(), declared())
    ]
    assert 9 == len(set().union(*versions))
    reached = covered([*plan.own_functions("model"), fit_model, predict])
    assert {("tests.own_estimators", f"Means.{it}") for it in ("fit", "predict", "to_text", "from_text")} <= reached


def test_a_declaration_without_one_is_hashed_as_before() -> None:
    assert "estimator" not in plan_of().declaration.training.model_dump()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": {"estimator": LINEAR, "device": "cuda"}}, "training.device\n  'device' is LightGBM's"),
        ({"training": {"estimator": LINEAR, "workers": 2}}, "training.workers\n  'workers' is LightGBM's"),
        ({"tuning": {"max_rounds": 100}}, "tuning.max_rounds\n  'max_rounds' is LightGBM's"),
        ({"tuning": {"fixed": {"num_leaves": 7}}}, f"{LINEAR} has no parameter 'num_leaves' of tuning.fixed"),
        ({"training": {"estimator": "nowhere.Model"}}, "training.estimator: nowhere.Model: there is no module"),
        ({"training": {"estimator": "tests.own_steps.Loads"}}, "tests.own_steps.Loads is no estimator; expected a"),
    ],
)
def test_what_only_lightgbm_has_and_what_does_not_exist_is_refused_when_the_project_loads(
    changes: Mapping[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        plan_of(**{"training": {"estimator": LINEAR}, "tuning": {}, **changes})


def test_a_champion_whose_class_has_changed_neither_predicts_nor_is_compared(
    linear: ModelPlan, staged: Mapping[str, Any], trained: Trained, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path))
    version = lake.put("returns/model", None, staged["model"], Origin()).version
    PromotionLog(lake, "returns").append(promotion(1, champion=version, model="returns"), number=1)
    rows = feature_rows().filter(pl.col("day") == LAST)
    monkeypatch.setattr(Linear, "predict", lambda _, matrix, threads: np.full(len(matrix), 0.5 / threads))
    message = rf"model 'returns' \({version[:12]}\) gives 32 of 32 golden rows other scores .* {LINEAR} or a library"

    with pytest.raises(DataError, match=message):
        load_champion("returns", lake=lake)
    with pytest.raises(DataError, match=message):
        [*predictions(linear)(context_of(LAST), rows, ml_assets_lake=LakeResource(url=lake.url))]
    [reason] = why_it_cannot_serve(lake, linear, version)
    assert re.search(message, reason)
    compared = measure_challenger(
        linear, trained.training_set, Versioned("new", trained.model), anchor=None,
        champion=Versioned(version, staged["model"]),
    ).summary  # fmt: skip
    assert compared.against_champion is None
    assert re.search(message, compared.champion_cannot_score or "")
