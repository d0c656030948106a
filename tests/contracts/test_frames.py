"""Contracts of artifacts that dbt does not know: valid ones pass, and planted violations are reported."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts import frames
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.objective import Objective

DAY = date(2024, 1, 2)
AT = datetime(2024, 1, 2, 9)  # noqa: DTZ001 - times are UTC without a zone
CLASSES = ("a", "b")


def predictions(**scores: list[object]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "prediction_id": ["m/1", "m/2"], "id": [1, 2], "day": [DAY] * 2, "asked_at": [AT] * 2, **scores,
            "model_version": ["m"] * 2, "features_version": ["f"] * 2, "features": [{"x": 1.0}] * 2,
        },
        schema_overrides={"asked_at": pl.Datetime("us")},
    )  # fmt: skip


LATE = ModelColumns("late", "binary", "is_late", ("id",), "due_at", "asked_at", "known_at")
OF_PREDICTIONS: dict[str, Any] = {"key": ["id"], "prediction_time": "asked_at"}
SOUND = {
    "labels": pl.DataFrame(
        {"day": [DAY] * 2, "id": [1, 2], "event_day": [DAY] * 2, "known_at": [AT] * 2, "is_late": [True, None]},
        schema_overrides={"known_at": pl.Datetime("us")},
    ),
    "counts": pl.DataFrame(
        {"day": [DAY] * 2, "id": [1, 2], "event_day": [DAY] * 2, "known_at": [AT] * 2, "is_late": [0.0, None]},
        schema_overrides={"known_at": pl.Datetime("us")},
    ),
    "predictions": predictions(score=[0.25, 1.0]),
    "values": predictions(score=[-3.0, 1e9]),
    "intervals": predictions(score=[-3.0, 1e9], interval_low=[-4.0, 0.0], interval_high=[-2.0, 2e9]),
    "classes": predictions(score=[0.75, 0.5], predicted=["a", "b"], score_a=[0.75, 0.5], score_b=[0.25, 0.5]),
    "drift": pl.DataFrame({
        "model_version": ["v", "v"], "feature": ["score", "x"], "kind": ["score", "numeric"], "rows": [9, 9],
        "psi": [0.0, 0.5], "excess_psi": [0.0, 0.5], "ks": [0.0, 1.0], "normed_wasserstein": [0.0, None],
        "null_share": [0.0, 0.5], "null_share_reference": [0.0, 0.5], "new_category_share": [None, 0.0],
        "weight": [None, 1.0], "weighted_excess_psi": [None, 0.5], "is_over": [False, True], "reason": ["", "PSI"],
    }),
    "performance": pl.DataFrame({
        "model_version": ["v", "v"], "metric": ["roc_auc", "brier"], "value": [0.75, None], "low": [0.5, None],
        "high": [1.0, None], "expected": [0.75, 0.25], "expected_labelled": [0.75, 0.25], "rows": [9, 9],
        "reason": ["", "one class"],
    }),
    "importances": pl.DataFrame({
        "feature": ["x", "noise"], "gain": [9.0, 1.0], "gain_share": [0.9, 0.1], "permutation": [0.5, -0.1],
        "permutation_std": [0.1, 0.1], "shap": [1.0, 0.0], "shap_share": [1.0, 0.0], "stability": [1.0, 0.0],
        "beats_noise": [True, False], "is_selected": [True, False], "reason": ["beats", "noise"], "rank": [1, 2],
    }),
    "trials": pl.DataFrame({
        "trial": [0, 1], "state": ["complete", "pruned"], "value": [0.7, None], "rounds": [9, 3],
        "is_best": [True, False], "curve_steps": [[1], [1]], "curve": [[0.5], [0.4]], "learning_rate": [0.1, 0.2],
    }),
}  # fmt: skip
SCHEMAS: dict[str, Callable[[], Any]] = {
    "labels": lambda: frames.labels_table(LATE),
    "counts": lambda: frames.labels_table(replace(LATE, task="regression", objective=Objective(loss="poisson"))),
    "predictions": lambda: frames.predictions_table(**OF_PREDICTIONS, task="binary"),
    "values": lambda: frames.predictions_table(**OF_PREDICTIONS, task="regression"),
    "intervals": lambda: frames.predictions_table(**OF_PREDICTIONS, task="regression", has_interval=True),
    "classes": lambda: frames.predictions_table(**OF_PREDICTIONS, task="multiclass", classes=CLASSES),
    "drift": frames.drift_table,
    "performance": frames.performance_table,
    "importances": frames.importances_table,
    "trials": lambda: frames.trials_table(["learning_rate"]),
}


def refusal(what: str, *found: pl.DataFrame, **more: Any) -> str:
    with pytest.raises(ContractError) as caught:
        frames.check_frames(found, SCHEMAS[what](), **more)
    return str(caught.value)


@pytest.mark.parametrize("what", SOUND)
def test_a_valid_frame_an_empty_one_and_several_days_satisfy_their_contract(what: str) -> None:
    sound = SOUND[what]
    parts = [sound, sound] if what in {"drift", "performance"} else [sound, sound.clear()]

    frames.check_frames([sound], SCHEMAS[what]())
    frames.check_frames(parts, SCHEMAS[what]())


@pytest.mark.parametrize("what", SOUND)
def test_missing_unknown_and_mistyped_columns_are_reported_together(what: str) -> None:
    sound = SOUND[what]
    first, last = sound.columns[0], sound.columns[-1]

    message = refusal(what, sound.with_columns(pl.lit(1.5).alias(first), pl.lit(1).alias("stranger")).drop(last))

    assert f"- columns are missing: {last}." in message
    assert "- columns are not expected: stranger." in message
    assert f"- column '{first}' is Float64; expected " in message
    assert message.endswith("Fix the stage that computes them, or its inputs; see ml_assets/contracts/frames.py.")


BREAKS = [
    ("labels", {"day": pl.lit(date(2024, 1, 3))}, "'day' is the day of the known time: broken in 2 rows"),
    ("labels", {"known_at": pl.lit(None, pl.Datetime("us"))}, "column 'known_at' is missing in 2 rows; expected none"),
    ("labels", {"is_late": pl.lit(2)}, "'is_late' is 0 or 1: broken in 2 rows, for instance by 2"),
    (
        "counts",
        {"is_late": pl.lit(-1.0)},
        "'is_late' is 0 or more, as the objective poisson needs: broken in 2 rows, for instance by -1.0",
    ),
    ("predictions", {"score": pl.lit(1.5)}, "'score' is between 0 and 1: broken in 2 rows, for instance by 1.5"),
    ("drift", {"psi": pl.lit(float("nan"))}, "'psi' is at least 0: broken in 2 rows, for instance by NaN"),
    ("predictions", {"score": pl.lit(None, pl.Float64)}, "column 'score' is missing in 2 rows"),
    ("predictions", {"prediction_id": pl.lit("m/1")}, "'prediction_id' is unique within its day: broken in 2 rows"),
    ("values", {"score": pl.lit(float("inf"))}, "'score' is a finite number: broken in 2 rows"),
    ("intervals", {"interval_low": pl.lit(None, pl.Float64)}, "column 'interval_low' is missing in 2 rows"),
    ("classes", {"predicted": pl.lit("c")}, "'predicted' is a class of the model: broken in 2 rows"),
    ("classes", {"score_b": pl.lit(0.9)}, "the scores of all classes sum to 1: broken in 2 rows"),
    ("drift", {"psi": pl.lit(-0.5)}, "'psi' is at least 0: broken in 2 rows"),
    ("drift", {"kind": pl.lit("text")}, "'kind' is one of numeric, categorical, score: broken in 2 rows"),
    ("drift", {"null_share": pl.lit(1.5)}, "'null_share' is between 0 and 1: broken in 2 rows"),
    ("drift", {"reason": pl.lit("")}, "'reason' is given for rows over a limit only: broken in 1 rows"),
    ("performance", {"low": pl.lit(2.0)}, "'low' is not above 'high': broken in 1 rows"),
    ("performance", {"reason": pl.lit("")}, "'reason' is given for a metric without a value: broken in 1 rows"),
    ("importances", {"rank": pl.lit(1)}, "'rank' counts from 1 in the order of rows: broken in 1 rows"),
    ("importances", {"feature": pl.lit("x")}, "'feature' is unique: broken in 2 rows"),
    ("importances", {"gain_share": pl.lit(9.0)}, "'gain_share' is between 0 and 1: broken in 2 rows"),
    ("trials", {"is_best": pl.lit(value=False)}, "one trial is the best: broken in 2 rows"),
    ("trials", {"value": pl.lit(0.5)}, "'value' is missing for pruned trials only: broken in 1 rows"),
    ("trials", {"trial": pl.lit(0)}, "'trial' counts from 0 in the order of rows: broken in 1 rows"),
]


@pytest.mark.parametrize(("what", "change", "sentence"), BREAKS, ids=[sentence for _, _, sentence in BREAKS])
def test_a_planted_violation_is_reported_by_its_own_rule_only(
    what: str, change: dict[str, pl.Expr], sentence: str
) -> None:
    whole = {name: value.cast(pl.Int64) for name, value in change.items() if name in {"rank", "trial"}}

    [line] = [
        it for it in refusal(what, SOUND[what].with_columns(**change | whole)).splitlines() if it.startswith("- ")
    ]

    assert line.startswith(f"- {sentence}")


def test_no_message_shows_a_value_of_a_personal_column() -> None:
    message = refusal("labels", SOUND["labels"].with_columns(is_late=pl.lit(2)), personal=["is_late"])

    assert "'is_late' is 0 or 1: broken in 2 rows, for instance by (personal)." in message


def test_columns_in_another_order_are_reported() -> None:
    message = refusal("predictions", SOUND["predictions"].select("id", pl.exclude("id")))

    assert "columns are in another order, the first of them is id" in message


def test_days_with_different_columns_are_reported() -> None:
    message = refusal("drift", SOUND["drift"], SOUND["drift"].drop("psi"))

    assert "drift tables: the frames of one run have different columns" in message


def test_importing_the_contracts_does_not_import_pandera() -> None:
    code = "import sys; import ml_assets.contracts.frames; print('pandera' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
