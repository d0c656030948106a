"""A champion that is loaded to answer requests, and the scores of its answers.

Not here: which version is served when (see `ml_assets.serving.registry`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import INTERVAL, Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.logic.monitoring.predictions import contract_of
from ml_assets.logic.promotion.log import serving_since
from ml_assets.logic.training.booster import model_scores, named_scores
from ml_assets.logic.training.booster_importances import contributions
from ml_assets.logic.training.encoding import Matrix
from ml_assets.logic.training.golden_rows import GoldenScores, check_golden_rows
from ml_assets.logic.training.single_row import SingleRow
from ml_assets.serving.inputs import EncodedInputs, InputContract
from ml_assets.serving.keys import load_key

if TYPE_CHECKING:  # feature rows are loaded for a served model
    from ml_assets.serving.feature_rows import FeatureRows

FEW_ROWS: Final = 16
"""Up to so many rows are scored one by one: LightGBM's call for a matrix costs as much as some calls for a row."""
FLAGGED: Final = "is_flagged"
"""The column that says whether a score reaches the threshold of the declared operating point."""
SHORTEST_VERSION: Final = 4
"""Characters of a version that identify it."""


@dataclass(frozen=True)
class Served:
    """Scores of rows, by name, with the version that computed them."""

    version: str
    entry: int
    columns: Mapping[str, list[Any]]
    unseen: Mapping[str, int]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.columns["score"])

    def records(self) -> list[dict[str, Any]]:
        """Return the scores row by row."""
        names = [*self.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


@dataclass(frozen=True)
class ServedModel:
    """A version of a model that has given its golden rows the scores of its training.

    Attributes:
        entry: the number of the entry of the promotion log that made it champion.
        since: when that entry was decided.
        golden: the result of the comparison.
        threshold: the score from which rows are flagged: as declared for the evaluation of this version, or the lowest
            score of the declared share of its test rows; None without.
        threads: the number of threads for many rows; it changes no score.
        features: the newest feature row of each key; None if rows are not joined by key.
    """

    name: str
    version: str
    entry: Promotion
    model: Model
    inputs: InputContract
    golden: GoldenScores
    threshold: float | None = None
    threads: int = 2
    features: "FeatureRows | None" = None

    @cached_property
    def outputs(self) -> Mapping[str, pl.DataType]:
        """The columns of the scores with their types."""
        spec = self.model.spec
        found: dict[str, pl.DataType] = {"score": pl.Float64()}
        if spec.interval is not None:
            found |= dict.fromkeys(INTERVAL, pl.Float64())
        if spec.task == "multiclass":
            found |= {"predicted": pl.String()} | {f"score_{name}": pl.Float64() for name in spec.classes}
        return found if self.threshold is None else {**found, FLAGGED: pl.Boolean()}

    @cached_property
    def _single(self) -> SingleRow | None:
        """LightGBM's scorer of single rows; None for another estimator."""
        return SingleRow.of(self.model) if self.model.spec.estimator is None else None

    def is_quick(self, rows: int) -> bool:
        """Return whether so many rows are scored in microseconds."""
        return rows <= FEW_ROWS and self._single is not None

    def score(self, inputs: EncodedInputs) -> Served:
        """Return the scores of rows, equal to those of the batch predictions of the same features.

        Raises:
            DataError: the estimator of a person failed.
        """
        scores = named_scores(self.model.spec, self._raw(inputs.matrix))
        columns = {name: found.tolist() if isinstance(found, np.ndarray) else found for name, found in scores.items()}
        if self.threshold is not None:
            columns[FLAGGED] = (np.asarray(scores["score"]) >= self.threshold).tolist()
        return Served(self.version, self.entry.number, columns, inputs.unseen)

    def _raw(self, matrix: Matrix) -> Matrix:
        if len(matrix) <= FEW_ROWS and len(matrix) and self._single is not None:
            return self._single.scores(matrix)
        return model_scores(self.model, matrix, threads=self.threads)

    def explain(self, inputs: EncodedInputs) -> Matrix:
        """Return (rows, features + 1) what each feature adds to the raw score; the last is the mean of the training.

        Raises:
            DataError: the estimator is not LightGBM.
        """
        return contributions(self.model, inputs.matrix, threads=self.threads)


def load_served_model(
    lake: Lake, name: str, *, pinned: str | None = None, public: frozenset[str] = frozenset(), threads: int = 2
) -> ServedModel:
    """Return the current champion of a model, or a pinned former one, after verifying it.

    Args:
        lake: the lake.
        name: the model.
        pinned: the first characters of a version; the current champion without.
        public: the columns of the key that are not personal.
        threads: the number of threads for many rows.

    Raises:
        DataError: there is no champion, the pinned version was never champion, or golden rows have other scores.
        ContractError: its text or its estimator cannot be read.
        MissingArtifactError: the model is not in the lake.
        CorruptArtifactError: the promotion log or the model is damaged.
        LakeError: the lake cannot be read, or the name is not that of a model.
    """
    entries = PromotionLog(lake, name).verified().entries
    if pinned is None:
        entry = serving_since(entries)
        if entry is None:
            raise DataError(
                f"model '{name}' has no champion in the lake {lake.url}, so it cannot be served. Train and judge one "
                f"with: ml-assets run {name}."
            )
    else:
        found = {it.champion: it for it in entries if it.champion is not None and it.champion.startswith(pinned)}
        if len(found) != 1 or len(pinned) < SHORTEST_VERSION:
            known = ", ".join(dict.fromkeys(it.champion[:12] for it in reversed(entries) if it.champion)) or "none"
            raise DataError(
                f"version '{pinned}' of model '{name}' is not that of exactly one champion; expected "
                f"{SHORTEST_VERSION} characters or more of one of: {known}."
            )
        entry = next(it for it in entries if it.champion in found)
    version = str(entry.champion)
    ref = ArtifactRef(asset=f"{name}/model", version=version)
    model: Model = lake.get(ref, Model)
    trained = contract_of(model)
    key = load_key(lake, ref, public | {*trained.names} - trained.personal)
    golden, threshold = check_golden_rows(model, version=version), _threshold(lake, name, version, entries)
    served = ServedModel(name, version, entry, model, InputContract.of(model, key), golden, threshold, threads)
    served.is_quick(1)  # prepares the scorer of single rows
    return served


def load_challenger(lake: Lake, champion: ServedModel, entry: Promotion, entries: Sequence[Promotion]) -> ServedModel:
    """Return the challenger of an entry, after verifying it as a champion is.

    Args:
        lake: the lake.
        champion: whose requests it scores.
        entry: by which it is online.
        entries: the promotion log.

    Raises:
        As `load_served_model`; also DataError if it has inputs that requests for the champion do not bring.
    """
    name, version = champion.name, entry.challenger
    model: Model = lake.get(ArtifactRef(asset=f"{name}/model", version=version), Model)
    golden, threshold = check_golden_rows(model, version=version), _threshold(lake, name, version, entries)
    inputs = InputContract.of(model, champion.inputs.key)
    found = replace(
        champion, version=version, entry=entry, model=model, inputs=inputs, golden=golden, threshold=threshold,
        features=None,
    )  # fmt: skip
    brought = {it.name: it.column.dtype for it in champion.inputs.fields}
    if other := [it.name for it in found.inputs.fields if brought.get(it.name) != it.column.dtype]:
        raise DataError(
            f"challenger {version} of model '{name}' has inputs that requests for champion {champion.version} do not "
            f"bring, or bring in another type: {', '.join(other)}. It is compared in the batch path only."
        )
    if found.outputs != champion.outputs:
        raise DataError(
            f"challenger {version} of model '{name}' answers {', '.join(found.outputs)}; champion {champion.version} "
            f"answers {', '.join(champion.outputs)}. It is compared in the batch path only."
        )
    found.is_quick(1)
    return found


def _threshold(lake: Lake, name: str, version: str, entries: Sequence[Promotion]) -> float | None:
    """Return the declared threshold of the evaluation of a version; None if none is declared, or it has no evaluation.

    Raises:
        MissingArtifactError: the evaluation is not in the lake.
        CorruptArtifactError: it is damaged.
    """
    own = (it.evaluation_version for it in reversed(entries) if it.challenger == version)
    evaluation = next((it for it in own if it is not None), None)
    if evaluation is None:
        return None
    found: Evaluation = lake.get(ArtifactRef(asset=f"{name}/evaluation", version=evaluation), Evaluation)
    point = found.summary.operating_point
    return None if point is None else point.cut if point.threshold is None else point.threshold
