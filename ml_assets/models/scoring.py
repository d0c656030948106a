"""Scores the rows of a day with a champion or a challenger, for the stages of predictions."""

import polars as pl

from ml_assets.contracts.changes import ContractChange, input_changes
from ml_assets.lake.ledger import StepLedger
from ml_assets.logic.monitoring.predictions import check_question, score_rows
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import check_golden_rows
from ml_assets.models.champions import Champion
from ml_assets.models.evaluation import Versioned
from ml_assets.models.plan import ModelPlan


def changes_since(champion: Champion, plan: ModelPlan) -> tuple[ContractChange, ...]:
    """Check that a champion predicts the declared target as when it was trained; return how its inputs have changed.

    Raises:
        ContractError: it predicts another one.
        DataError: it gives its golden rows other scores.
    """
    declared, model = plan.declaration, champion.model
    labels = declared.labels
    check_question(
        model.spec, version=champion.version, task=declared.task, target=labels.target, positive=labels.positive
    )
    check_golden_rows(model, version=champion.version)
    return input_changes(model, plan.inputs_contract)


def rows_of_day(plan: ModelPlan, features: pl.DataFrame, day: str) -> pl.DataFrame:
    """Return the feature rows of a day or period."""
    return features.filter(plan.calendar.key_of_row() == day)


def score_day(
    ledger: StepLedger, plan: ModelPlan, scorer: Champion | Versioned, rows: pl.DataFrame, day: str
) -> pl.DataFrame:
    """Return the scores of feature rows of a day by a champion or a challenger."""
    model, threads = scorer.model, plan.declaration.training.threads
    return score_rows(
        rows,
        predict(model, rows, threads=threads),
        model.spec,
        plan.columns,
        model_version=scorer.version,
        features_version=ledger.versions().get(f"{plan.name}/features/{day}", ""),
    )
