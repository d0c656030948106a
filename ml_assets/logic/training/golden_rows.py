"""Golden rows: a few rows with the scores that a model gave them when it was trained, to verify a loaded model.

The version of a model covers its text, not the code that reads the text. A changed class of an estimator, or another
release of LightGBM, could change the scores of a champion under the same version. Whoever scores with a stored model
therefore scores its golden rows first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Feature, Model, ModelSpec, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.encoding import Matrix, encode, is_unseen

GOLDEN_ROWS: Final = 32
_STRANGE_ROWS: Final = 24
"""How many of them are chosen because a value is missing, extreme or rare; the others are spread over all rows."""
_ROW: Final = "features"
"""The column with the features as a struct, because a feature may have the name of a score."""
_DOUBLE_ROUNDING: Final = 1e-12
"""How far the scores of LightGBM may differ on another CPU, as a share of the largest: `exp` and `log` round there."""
_FLOAT_ROUNDING: Final = 1e-6
"""As above, of an estimator of a person, which may compute with float32."""


@dataclass(frozen=True)
class GoldenScores:
    """The scores of a model's golden rows, compared with those of its training.

    Attributes:
        rows: 0 for a model of a release without golden rows.
        difference: the largest difference, which another CPU or library may round to; 0 if all bits are equal.
    """

    rows: int
    difference: float = 0.0

    @property
    def words(self) -> str:
        """The result as text."""
        if not self.rows:
            return "not verified: the model was trained by a release without golden rows"
        if not self.difference:
            return f"{self.rows} golden rows have the scores of the training, bit for bit"
        return f"{self.rows} golden rows have the scores of the training, up to a rounding of {self.difference:.1e}"


def with_golden_rows(model: Model, training: TrainingSet) -> Model:
    """Return the model with golden rows of the validation rows and its scores of them."""
    rows = training.part("validation")
    names = [feature.name for feature in model.spec.features]
    rows = _scorable((training.rows if rows.is_empty() else rows).select(names), model.spec)
    chosen = rows[_chosen(rows, model.spec.features)]
    scores = _scores(model, chosen)
    return replace(model, golden=chosen.select(pl.struct(names).alias(_ROW)).hstack(scores))


def golden_rows(model: Model) -> pl.DataFrame:
    """Return the features of a model's golden rows; no rows for a model of a release without them."""
    if model.golden is None:
        return pl.DataFrame()
    return model.golden.select(_ROW).unnest(_ROW)


def check_golden_rows(model: Model, *, version: str) -> GoldenScores:
    """Score the golden rows of a loaded model again and compare.

    Raises:
        DataError: the model gives other scores than when it was trained, or cannot score.
        ContractError: the text does not belong to the spec, or there is no such estimator.
    """
    if model.golden is None:
        return GoldenScores(0)
    spec = model.spec
    scores = _scores(model, golden_rows(model))
    was, now = _numbers(model.golden.select(scores.columns)), _numbers(scores)
    if np.array_equal(was.view(np.uint64), now.view(np.uint64)):
        return GoldenScores(len(was))
    difference = float(np.abs(now - was).max())
    if difference <= rounding_of(spec) * np.abs(was).max():
        return GoldenScores(len(was), difference)
    changed = int((was != now).any(axis=1).sum())
    cause = "LightGBM or a library" if spec.estimator is None else f"{spec.estimator} or a library that it uses"
    raise DataError(
        f"model '{spec.model}' ({version[:12]}) gives {changed} of {len(was)} golden rows other scores than when it "
        f"was trained, by up to {difference:.3g}; expected the same. {cause} has changed since, so its measured "
        f"quality no longer holds: restore the earlier code, or train a new model: ml-assets run {spec.model}."
    )


def rounding_of(spec: ModelSpec) -> float:
    """Return how far the scores of a model may differ on another CPU, as a share of the largest."""
    return _DOUBLE_ROUNDING if spec.estimator is None else _FLOAT_ROUNDING


def _scores(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the scores and the interval ends; the predicted class follows from the scores of the classes."""
    return predict(model, rows, threads=1).select(pl.col(pl.Float64))


def _numbers(scores: pl.DataFrame) -> Matrix:
    return scores.to_numpy(order="c")


def _scorable(rows: pl.DataFrame, spec: ModelSpec) -> pl.DataFrame:
    """Return the rows without unseen categories, if those are an error."""
    if spec.unseen_categories == "missing":
        return rows
    encoded = encode(rows, spec.features, spec.vocabularies, "missing", model=spec.model)
    categorical = [feature.name for feature in spec.features if feature.is_categorical]
    unseen = pl.DataFrame({name: is_unseen(rows[name], encoded[name]) for name in categorical})
    return rows.filter(~unseen.select(pl.any_horizontal(pl.all())).to_series()) if categorical else rows


def _chosen(rows: pl.DataFrame, features: Sequence[Feature]) -> list[int]:
    """Return the numbers of the golden rows, in ascending order."""
    chosen: dict[int, None] = {}
    for index in _strange(rows, features):
        if len(chosen) == _STRANGE_ROWS:
            break
        chosen[index] = None
    others = np.linspace(0, max(0, rows.height - 1), num=min(GOLDEN_ROWS, rows.height)).astype(int)
    for index in others.tolist():
        if len(chosen) == GOLDEN_ROWS:
            break
        chosen[index] = None
    return sorted(chosen)


def _strange(rows: pl.DataFrame, features: Sequence[Feature]) -> Iterator[int]:
    """Yield, feature by feature, the first row with a missing value, with an extreme value, or with a rare category."""
    for feature in features:
        column = rows[feature.name]
        found = [column.is_null().arg_max() if column.has_nulls() else None]
        if feature.is_categorical:
            text = column.cast(pl.String)
            counts = text.drop_nulls().value_counts().sort("count", text.name)
            found += [(text == value).arg_max() for value in counts[text.name].head(1)]
        else:
            numbers = column.cast(pl.Float64)
            found += [numbers.arg_min(), numbers.arg_max()]
        yield from (index for index in found if index is not None)
