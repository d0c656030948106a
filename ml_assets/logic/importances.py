"""Which features carry a model: gain, permutation, SHAP, stability over time folds, all against injected noise.

Plots, and the final model, stay out: see `plots`, `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Feature, Importances, ImportancesSummary, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.logic.encoding import Matrix, Vector, encode, fit_vocabularies, target_vector, to_matrix
from ml_assets.logic.metrics import Metric, find_metric
from ml_assets.logic.model import Binned, bin_rows, boost, mean_contributions, raw_scores, target_offset
from ml_assets.logic.parameters import full_parameters
from ml_assets.logic.samples import random_rows

if TYPE_CHECKING:
    from lightgbm import Booster

OnFold = Callable[[int, int], None]

EXPLAINER: Final[Mapping[str, float | int | str | bool]] = {
    "learning_rate": 0.15,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    # Half of the columns a tree: of two that say the same, both then get to show it.
    "feature_fraction": 0.5,
    "max_bin": 63,
}
"""A quick model: importances rank features, they do not predict."""

ROUNDS: Final = 60
NOISE_NUMERIC: Final = "noise_numeric"
NOISE_CATEGORICAL: Final = "noise_categorical"
COPIES: Final[Mapping[str, int]] = {NOISE_NUMERIC: 5, NOISE_CATEGORICAL: 2}
"""How many of each are injected: one draw of noise has half or twice another's gain, the strongest of some does not."""

_SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String,
        "gain": pl.Float64,
        "gain_share": pl.Float64,
        "permutation": pl.Float64,
        "permutation_std": pl.Float64,
        "shap": pl.Float64,
        "shap_share": pl.Float64,
        "stability": pl.Float64,
        "beats_noise": pl.Boolean,
        "kept": pl.Boolean,
        "reason": pl.String,
        "rank": pl.Int64,
    }
)


@dataclass(frozen=True)
class _Columns:
    """The features and, after them, the injected noise; an entry a column."""

    features: tuple[Feature, ...]
    is_noise: NDArray[np.bool_]
    is_categorical: NDArray[np.bool_]


@dataclass(frozen=True)
class _Rows:
    matrix: Matrix
    target: Vector

    def take(self, index: NDArray[np.int64]) -> _Rows:
        return _Rows(self.matrix[index], self.target[index])


@dataclass(frozen=True)
class _Fold:
    """What one time fold measured, an entry a column."""

    gain: Vector
    permutation: Vector
    permutation_std: Vector
    beats: NDArray[np.bool_]
    harms: NDArray[np.bool_]


def measure_importances(
    training: TrainingSet,
    *,
    seed: int,
    metric: str,
    threads: int = 2,
    rows: int = 20_000,
    folds: int = 3,
    repeats: int = 2,
    fit_rows: int = 60_000,
    explained_rows: int = 2_000,
    on_fold: OnFold | None = None,
) -> Importances:
    """Measure each feature in several ways and say which stay, and why.

    The train rows are cut by time into `folds` blocks. Fold k fits on the blocks before and measures on the block
    after; the last fits on all train rows and measures on validation, and its figures are the ones reported. Test is
    never looked at.

    A feature beats noise in a fold if its gain is above that of every injected noise of its kind (normal variables,
    missing as often as the features; shuffled copies of the median categorical by number of categories), or if
    shuffling it costs more metric than shuffling any of that noise, by two standard errors. (Permutation importance:
    Breiman 2001; features against the strongest noise: Kursa and Rudnicki 2010, Boruta.) Gain alone overrates what
    splits finely; permutation alone underrates what has a twin. A feature that the fold's model would do better
    without, by more than any noise and two standard errors, does not beat noise there. It stays if it beats noise in
    at least half of the folds.

    Args:
        training: The frozen rows.
        seed: Of samples, noise, shuffles and fits.
        metric: What permutation is measured in, a drop being above zero whatever the metric's direction.
        threads: For LightGBM.
        rows: Validation rows that permutation is measured on, at most; half as many on the earlier folds.
        folds: Time folds, validation among them.
        repeats: Shuffles of each feature, at least 2.
        fit_rows: Rows that a fold is fitted on, at most.
        explained_rows: Validation rows that mean |SHAP| is taken over, at most; its cost is by rows, trees and depth.
        on_fold: Told after each fold how many are done, and of how many.

    Returns:
        A row a feature and, of each kind, the strongest injected noise, ranked by mean |SHAP|; `kept` in the summary is
        in the training set's order.

    Raises:
        DataError: Fewer than 1 fold or 2 repeats, a train window too short to cut, a metric that a fold cannot give.
        ContractError: Mistyped columns.
    """
    summary = training.summary
    judged = find_metric(metric, summary.task)
    train, validation = training.part("train"), training.part("validation")
    if folds < 1 or repeats < 2 or train.height < 2 * folds:
        raise DataError(
            f"importances of model '{summary.model}' got {folds} folds, {repeats} repeats and {train.height} train "
            "rows; expected at least 1 fold, 2 repeats and two rows a fold. Lengthen the train window or cut it less."
        )
    draw = np.random.default_rng(seed)
    # Each fold needs rows to fit on and rows to measure on; more than that need not be encoded.
    train = train[random_rows(train.height, 2 * fit_rows, draw)]
    validation = validation[random_rows(validation.height, rows, draw)]
    vocabularies = fit_vocabularies(train, summary.features)
    columns = _with_noise(summary.features)
    past, held = (
        _numbers(part, training, vocabularies=vocabularies, columns=columns, draw=draw) for part in (train, validation)
    )
    told = full_parameters(summary.task, EXPLAINER, classes=summary.classes, seed=seed, threads=threads)
    classes = len(summary.classes)

    edges = np.linspace(0, len(past.target), folds + 1).astype(np.int64)
    measured: list[_Fold] = []
    for fold in range(1, folds + 1):
        fitted = past.take(random_rows(int(edges[fold]), fit_rows, draw))
        block = np.arange(edges[fold], edges[min(fold + 1, folds)])
        later = held if fold == folds else past.take(random_rows(block, rows // 2, draw))
        offset = target_offset(fitted.target, told)
        data = bin_rows(fitted.matrix, fitted.target - offset, features=columns.features, parameters=told)
        booster = boost(Binned(columns.features, vocabularies, data, None, offset), told, rounds=ROUNDS)
        score = judged.function(later.target, raw_scores(booster, later.matrix, classes=classes, threads=threads))
        gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
        drops = _drops(
            booster,
            later,
            gain,
            metric=judged,
            score=score,
            classes=classes,
            threads=threads,
            draw=draw,
            repeats=repeats,
        )
        measured.append(_judge_fold(gain, drops, columns))
        if on_fold is not None:
            on_fold(fold, folds)

    explained = held.matrix[random_rows(len(held.target), explained_rows, draw)]
    shap = mean_contributions(booster, explained, threads=threads)
    is_constant = train.select(pl.col(feature.name).n_unique() < 2 for feature in summary.features).row(0)
    table = _table(columns, measured, shap, is_constant=is_constant)
    kept = set(table.filter("kept").get_column("feature"))
    names = [feature.name for feature in summary.features]
    return Importances(
        table=table,
        summary=ImportancesSummary(
            metric=metric,
            score=score,
            kept=tuple(name for name in names if name in kept),
            dropped=tuple(name for name in names if name not in kept),
            folds=folds,
            rows_explained=len(explained),
        ),
    )


def _with_noise(features: Sequence[Feature]) -> _Columns:
    taken = {feature.name for feature in features}
    kinds = [NOISE_NUMERIC]
    if any(feature.is_categorical for feature in features):
        kinds.append(NOISE_CATEGORICAL)
    noise = [
        Feature(name=_free(f"{kind}_{copy}", taken), dtype="noise", is_categorical=kind == NOISE_CATEGORICAL)
        for kind in kinds
        for copy in range(COPIES[kind])
    ]
    every = (*features, *noise)
    return _Columns(
        features=every,
        is_noise=np.arange(len(every)) >= len(features),
        is_categorical=np.array([feature.is_categorical for feature in every]),
    )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _numbers(
    rows: pl.DataFrame,
    training: TrainingSet,
    *,
    vocabularies: Mapping[str, Sequence[str]],
    columns: _Columns,
    draw: np.random.Generator,
) -> _Rows:
    summary = training.summary
    encoded = encode(rows, summary.features, vocabularies, "missing", model=summary.model)
    numeric = [feature.name for feature in summary.features if not feature.is_categorical]
    # A column with missing values is split in two ways at each border, and so gains more from nothing.
    shares = encoded.select(pl.col(numeric).is_null().mean()).row(0) if numeric else ()
    missing = float(np.mean([share for share in shares if share] or [0.0]))
    by_size = sorted(vocabularies, key=lambda name: (len(vocabularies[name]), name))
    added = []
    for feature in columns.features[len(summary.features) :]:
        if feature.is_categorical:
            values = encoded.get_column(by_size[len(by_size) // 2])[draw.permutation(rows.height)]
        else:
            normal = np.where(draw.random(rows.height) < missing, np.nan, draw.normal(size=rows.height))
            values = pl.Series(normal)
        added.append(values.alias(feature.name))
    return _Rows(
        matrix=to_matrix(encoded.with_columns(added)),
        target=target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes),
    )


def _drops(
    booster: Booster,
    rows: _Rows,
    gain: Vector,
    *,
    metric: Metric,
    score: float,
    classes: int,
    threads: int,
    draw: np.random.Generator,
    repeats: int,
) -> Vector:
    """Return (repeats, columns): what each shuffle of each column costs; 0 for columns the model does not use."""
    drops = np.zeros((repeats, len(gain)))
    shuffles = [draw.permutation(len(rows.target)) for _ in range(repeats)]
    matrix = rows.matrix.copy()
    for column in np.flatnonzero(gain > 0):
        for repeat, shuffle in enumerate(shuffles):
            matrix[:, column] = rows.matrix[shuffle, column]
            scores = raw_scores(booster, matrix, classes=classes, threads=threads)
            drops[repeat, column] = metric.gain(score, metric.function(rows.target, scores))
        matrix[:, column] = rows.matrix[:, column]
    return drops


def _judge_fold(gain: Vector, drops: Vector, columns: _Columns) -> _Fold:
    mean, spread = drops.mean(axis=0), drops.std(axis=0, ddof=1)
    used = gain > 0
    # A few repeats say little about one feature's spread; pooled over features they say enough.
    error = float(np.sqrt(np.mean(spread[used] ** 2) / len(drops))) if used.any() else 0.0
    beats, harms = np.zeros_like(used), np.zeros_like(used)
    for is_kind in (columns.is_categorical, ~columns.is_categorical):
        noise, own = is_kind & columns.is_noise, is_kind & ~columns.is_noise
        if not own.any():
            continue
        harms |= own & used & (mean < mean[noise].min(initial=0.0) - 2 * error)
        is_above = (gain > gain[noise].max()) | (mean > mean[noise].max(initial=0.0) + 2 * error)
        beats |= own & used & is_above
    return _Fold(gain=gain, permutation=mean, permutation_std=spread, beats=beats & ~harms, harms=harms)


def _table(columns: _Columns, measured: Sequence[_Fold], shap: Vector, *, is_constant: Sequence[bool]) -> pl.DataFrame:
    folds = len(measured)
    last = measured[-1]
    figures = pl.DataFrame(
        {
            "feature": [feature.name for feature in columns.features],
            "gain": last.gain,
            "permutation": last.permutation,
            "permutation_std": last.permutation_std,
            "shap": shap,
            "beats": np.sum([fold.beats for fold in measured], axis=0),
            "harms": np.sum([fold.harms for fold in measured], axis=0),
            "is_used": np.any([fold.gain > 0 for fold in measured], axis=0),
            "is_noise": columns.is_noise,
            "is_categorical": columns.is_categorical,
            "is_constant": [*is_constant, *[False] * int(columns.is_noise.sum())],
        }
    )
    is_noise, beats, harms = pl.col("is_noise"), pl.col("beats"), pl.col("harms")
    # Of each kind of noise the strongest copy is the one that features had to beat; it stands for all.
    is_strongest = pl.col("gain").rank("ordinal", descending=True).over("is_noise", "is_categorical") == 1
    kind = pl.when("is_categorical").then(pl.lit(NOISE_CATEGORICAL)).otherwise(pl.lit(NOISE_NUMERIC))
    stays = (2 * beats >= folds) & pl.col("is_used") & ~is_noise
    return (
        figures.filter(~is_noise | is_strongest)
        .with_columns(
            feature=pl.when(is_noise).then(kind).otherwise("feature"),
            gain_share=_share("gain"),
            shap_share=_share("shap"),
            stability=beats / folds,
            beats_noise=stays,
            # Nothing above noise is no reason to train on nothing: the gate refuses a model without signal.
            kept=stays | (~stays.any() & ~is_noise),
            reason=pl.when(is_noise)
            .then(pl.format("injected noise, the strongest of {}", kind.replace_strict(COPIES)))
            .when(~stays.any())
            .then(pl.lit("no feature beats noise; all are kept, so that the gate judges the model"))
            .when("is_constant")
            .then(pl.lit("the same value in every train row"))
            .when(~pl.col("is_used"))
            .then(pl.lit("gain 0.0 in every fold"))
            .when(stays)
            .then(pl.format("beats noise in {} of {} folds", beats, pl.lit(folds)))
            .when(2 * harms >= folds)
            .then(pl.format("the model does better without it in {} of {} folds", harms, pl.lit(folds)))
            .otherwise(pl.format("does not beat noise in {} of {} folds", folds - beats, pl.lit(folds))),
        )
        .sort(["shap", "gain", "feature"], descending=[True, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1))
        .select(list(_SCHEMA))
        .cast(_SCHEMA)
    )


def _share(name: str) -> pl.Expr:
    total = pl.col(name).sum()
    return pl.when(total > 0).then(pl.col(name) / total).otherwise(0.0)
