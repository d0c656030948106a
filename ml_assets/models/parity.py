"""Compares the requests of a period with the batch path: scores with the models, features with their artifacts.

Not here: the comparison itself (see `ml_assets.logic.monitoring.parity`).
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.logic.monitoring.parity import Mismatch, compare_features, compare_scores
from ml_assets.logic.monitoring.requests import FEATURES_VERSION, PREDICTION_TIME, LoggedOfVersion
from ml_assets.models.champions import model_ref
from ml_assets.models.evaluation import Versioned
from ml_assets.models.plan import ModelPlan

LOOKED_AROUND: Final = timedelta(days=40)
"""How far the period of a feature row may be from its prediction time."""


def parity_of(ledger: StepLedger, plan: ModelPlan, rows: pl.DataFrame, key: str) -> list[Mismatch]:
    """Return what the batch path computes differently for the requests of a period.

    The models and features that are compared are recorded as inputs of the period.
    """
    return [
        found
        for version in rows["model_version"].unique().sort()
        for found in _of_version(ledger, plan, rows.filter(model_version=version), version, key)
    ]


def _of_version(ledger: StepLedger, plan: ModelPlan, rows: pl.DataFrame, version: str, key: str) -> Iterator[Mismatch]:
    try:
        [(model, manifest)] = ledger.lake.read_each([model_ref(plan, version)], Model)
        ledger.use([Input.of(manifest)], partition=key)
        hashed, threads = LoggedOfVersion.of(rows).hashed, plan.declaration.training.threads
        yield from compare_scores(rows, model, version=version, hashed=hashed, threads=threads)
        by_key = rows.filter(pl.col(FEATURES_VERSION).is_not_null())
        if not by_key.is_empty():
            yield from _of_features(ledger, plan, by_key, Versioned(version, model), key)
    except (MissingArtifactError, CorruptArtifactError, ContractError, DataError, pl.exceptions.PolarsError) as error:
        yield Mismatch(version, "score", rows.height, 0, reason=str(error))


def _of_features(
    ledger: StepLedger, plan: ModelPlan, rows: pl.DataFrame, scorer: Versioned, key: str
) -> Iterator[Mismatch]:
    """Yield what differs between rows by key and the artifacts of their features."""
    days: list[date] = rows[PREDICTION_TIME].dt.date().to_list()
    around = plan.calendar.keys(min(days) - LOOKED_AROUND, max(days) + LOOKED_AROUND)
    wanted, versions = {*rows[FEATURES_VERSION]}, ledger.lake.versions(plan.asset("features").to_user_string(), around)
    refs = [ref for its in versions.values() for ref in its if ref.version in wanted]
    is_known = pl.col(FEATURES_VERSION).is_in([ref.version for ref in refs])
    if lost := rows.filter(~is_known).height:
        yield Mismatch(scorer.version, "features", lost, 0, reason="their features are no longer in the lake")
    if not refs:
        return
    read = ledger.lake.read_each(refs, pl.DataFrame)
    ledger.use([Input.of(manifest) for _, manifest in read], partition=key)
    named = [frame.with_columns(pl.lit(it.version).alias(FEATURES_VERSION)) for frame, it in read]
    features, known = pl.concat(named, how="diagonal_relaxed"), rows.filter(is_known)
    hashed = LoggedOfVersion.of(known).hashed
    yield from compare_features(known, features, scorer.model, plan.columns, version=scorer.version, hashed=hashed)
