"""Select features: those that beat injected noise in a quick model over several time folds.

Not here: the importances of the trained model (see `ml_assets.logic.training.booster_importances`), and plots (see
`ml_assets.logic.plots`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Feature, Importances, ImportancesSummary, Task, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions, defaults_for, full_parameters
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.estimator import EncodedRows
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.training.booster import raw_scores
from ml_assets.logic.training.booster_importances import (
    Scoring,
    gains,
    mean_contributions,
    permutation_losses,
    share_of_total,
    used_columns,
)
from ml_assets.logic.training.encoding import (
    Vector,
    encode,
    fit_vocabularies,
    query_numbers,
    random_rows,
    target_vector,
    to_matrix,
    to_scale,
    weight_vector,
)
from ml_assets.logic.training.model import Binned, bin_rows, boost, target_offset

OnFold = Callable[[int, int], None]

EXPLAINER: Final[Mapping[str, float | int | str | bool]] = {
    "learning_rate": 0.15,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    # Half of the columns for each tree. Of two columns with the same information, both then show it.
    "feature_fraction": 0.5,
    "max_bin": 63,
}
"""Parameters of the quick model that selects features; of few rows, its leaves are smaller. The challenger is trained
with tuned parameters."""

ROUNDS: Final = 60
FEW_ROWS: Final = 2_000
"""Train rows below which a feature need not beat noise."""
ROWS_PER_FEATURE: Final = 5
"""How many of these rows there are at least for each feature, if features are selected that do not beat noise."""
LEAST_FEATURES: Final = 20
"""How many features may always be selected of few rows."""
NOISE_NUMERIC: Final = "noise_numeric"
NOISE_CATEGORICAL: Final = "noise_categorical"
COPIES: Final[Mapping[str, int]] = {NOISE_NUMERIC: 5, NOISE_CATEGORICAL: 2}
"""Copies of each kind of noise. The gain of one copy varies by a factor of two; the strongest of several varies
less."""

CLEARLY: Final = 2.0
"""How many times the gain of noise is more than chance alone gives."""

_SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String, "gain": pl.Float64, "gain_share": pl.Float64, "permutation": pl.Float64,
        "permutation_std": pl.Float64, "shap": pl.Float64, "shap_share": pl.Float64, "stability": pl.Float64,
        "beats_noise": pl.Boolean, "is_selected": pl.Boolean, "reason": pl.String, "rank": pl.Int64,
    }
)  # fmt: skip


FOLDS_SCHEMA: Final = pl.Schema(
    {
        "fold": pl.Int64, "feature": pl.String, "gain": pl.Float64, "noise_gain": pl.Float64, "permutation": pl.Float64,
        "noise_permutation": pl.Float64, "noise_harm": pl.Float64, "standard_error": pl.Float64, "harms": pl.Boolean,
        "beats_noise": pl.Boolean,
    }
)  # fmt: skip


@dataclass(frozen=True)
class ImportanceBudget:
    """How much is measured.

    Attributes:
        rows: Maximum number of validation rows for permutation importance; the earlier folds use half as many.
        folds: Blocks of the train rows, by time.
        repeats: How often each column is shuffled.
        fit_rows: Maximum number of rows that a fold is fitted on.
        explained_rows: Maximum number of rows for mean |SHAP|.
    """

    rows: int = 20_000
    folds: int = 3
    repeats: int = 2
    fit_rows: int = 60_000
    explained_rows: int = 2_000


FULL: Final = ImportanceBudget()


@dataclass(frozen=True)
class _Columns:
    """The features, followed by the injected noise; one entry per column."""

    features: tuple[Feature, ...]
    is_noise: NDArray[np.bool_]
    is_categorical: NDArray[np.bool_]


def measure_importances(
    training: TrainingSet,
    metric: str,
    conditions: Conditions,
    budget: ImportanceBudget = FULL,
    *,
    on_fold: OnFold | None = None,
) -> Importances:
    """Select features by a quick model of `ROUNDS` rounds, and return what it measured.

    The train rows are cut by time into one block for each fold. Fold k is fitted on the blocks before and measured on
    the block after. The last fold is fitted on all train rows and measured on validation rows. Test rows are not used.

    A feature beats noise in a fold if one of two conditions holds:

    - Its gain is above that of all injected noise of its kind. Noise is normal variables, missing as often as the
      features, and shuffled copies of the categorical with the median number of categories.
    - Shuffling it costs more than shuffling any of that noise, by two standard errors (permutation importance: Breiman
      2001; comparison with the strongest noise: Kursa and Rudnicki 2010, Boruta).

    Gain alone overrates columns with many values. Permutation alone underrates columns that have a duplicate. A feature
    does not beat noise in a fold if the model would be better without it, by more than any noise and two standard
    errors. A feature is selected if it beats noise in at least half of the folds. If none does, all are selected.
    A fold whose trees use neither the feature nor noise of its kind does not count: LightGBM splits on no category with
    fewer than ten rows, so early folds say nothing about a feature of many. If most folds do not count, its gain has to
    be more than twice that of the noise, or shuffling it has to cost more.
    With fewer than `FEW_ROWS` train rows (of two classes, with fewer than half as many of the rarer one), a true effect
    is often weaker than noise. A feature that does not beat noise is then selected too, unless it is not used, or the
    model would be better without it in half of the folds; those with the largest mean |SHAP|, up to one feature for
    `ROWS_PER_FEATURE` of these rows, and at least `LEAST_FEATURES`.
    `on_fold` is called after each fold with the number of finished folds and of all folds.

    Returns:
        The figures of the last fold, one row for each feature and for the injected noise with the largest gain of each
        kind, ranked by mean |SHAP|; the comparisons of each fold; and a summary, whose `selected` has the order of
        the training set.

    Raises:
        DataError: There are fewer than 1 fold or 2 repeats, the train window is too short, or the metric is not defined
            on a fold.
        ContractError: Columns have the wrong type.
    """
    summary, objective, folds, repeats = training.summary, training.summary.objective, budget.folds, budget.repeats
    train, validation = training.part("train"), training.part("validation")
    queries = query_numbers(train, objective)
    units, what = (train.height, "rows") if queries is None else (len(np.unique(queries)), "queries")
    if folds < 1 or repeats < 2 or units < 2 * folds:
        raise DataError(
            f"importances of model '{summary.model}' got {folds} folds, {repeats} repeats and {units} {what} of train; "
            f"expected at least 1 fold, 2 repeats and two {what} per fold. Use a longer train window, or fewer folds."
        )
    draw = np.random.default_rng(conditions.seed)
    # A fold needs rows to fit on and rows to measure on. Other rows are not encoded.
    train = train[random_rows(train.height, 2 * budget.fit_rows, draw, queries)]
    validation = validation[random_rows(validation.height, budget.rows, draw, query_numbers(validation, objective))]
    vocabularies = fit_vocabularies(train, summary.features)
    columns = _with_noise(summary.features)
    past, held = (
        _numbers(part, training, vocabularies=vocabularies, columns=columns, draw=draw) for part in (train, validation)
    )
    explainer = {**EXPLAINER, "min_data_in_leaf": min(50, int(defaults_for(train.height)["min_data_in_leaf"]))}
    full = full_parameters(summary.task, explainer, conditions, classes=summary.classes, objective=objective)
    raw = partial(raw_scores, classes=len(summary.classes), threads=conditions.threads)
    deciding = find_metric(metric, summary.task)

    edges = _edges(past, folds)
    measured: list[pl.DataFrame] = []
    for fold in range(1, folds + 1):
        fitted = past.take(random_rows(int(edges[fold]), budget.fit_rows, draw, past.queries))
        block = np.arange(edges[fold], edges[min(fold + 1, folds)])
        later = held if fold == folds else past.take(random_rows(block, budget.rows // 2, draw, past.queries))
        target = to_scale(fitted.target, objective)
        offset = target_offset(target, full)
        weights = None if fitted.weights is None else fitted.weights / fitted.weights.mean()
        shifted = replace(fitted, target=target - offset, weights=weights)
        data = bin_rows(shifted, features=columns.features, parameters=full)
        booster = boost(Binned(columns.features, vocabularies, data, None, offset), full, rounds=ROUNDS)
        scoring = Scoring(deciding, partial(raw, booster), objective)
        losses = permutation_losses(scoring, later, used=used_columns(booster), draw=draw, repeats=repeats)
        measured.append(_judge_fold(fold, gains(booster), losses, columns))
        if on_fold is not None:
            on_fold(fold, folds)

    explained = held.take(random_rows(len(held.target), budget.explained_rows, draw))
    shap = mean_contributions(booster, explained.matrix, threads=conditions.threads, weights=explained.weights)
    score = scoring.score(held)
    is_constant = train.select(pl.col(feature.name).n_unique() < 2 for feature in summary.features).row(0)
    compared = pl.concat(measured)
    evidence = _evidence(past.target, summary.task)
    room = max(LEAST_FEATURES, evidence // ROWS_PER_FEATURE) if evidence < FEW_ROWS else 0
    table = _table(compared, shap, is_constant=is_constant, room=room)
    chosen = set(table.filter("is_selected").get_column("feature"))
    names = [feature.name for feature in summary.features]
    return Importances(
        table=table,
        folds=compared.filter(~pl.col("is_noise")).select(FOLDS_SCHEMA.names()),
        summary=ImportancesSummary(
            metric=metric,
            score=score,
            rows=len(held.target),
            shuffles=repeats,
            selected=tuple(name for name in names if name in chosen),
            dropped=tuple(name for name in names if name not in chosen),
            folds=folds,
            rounds=ROUNDS,
            rows_explained=len(explained.target),
        ),
    )


def _evidence(target: Vector, task: Task) -> int:
    """Return how many train rows can tell a feature from noise: of two classes, twice those of the rarer one."""
    rarer = min(int(target.sum()), int((1 - target).sum())) if task == "binary" else 0
    return 2 * rarer if task == "binary" else len(target)


def _edges(rows: EncodedRows, folds: int) -> NDArray[np.int64]:
    """Return the first row of each fold, and the number of rows. Folds are equally large up to whole queries."""
    edges = np.linspace(0, len(rows.target), folds + 1).astype(np.int64)
    if rows.queries is None:
        return edges
    starts = np.append(np.flatnonzero(np.diff(rows.queries, prepend=-1)), len(rows.queries))
    count = np.arange(folds + 1)  # each fold has at least one query
    place = np.maximum.accumulate(np.searchsorted(starts, edges) - count) + count
    return starts[np.minimum(place, len(starts) - 1 - folds + count)]


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
) -> EncodedRows:
    summary = training.summary
    encoded = encode(rows, summary.features, vocabularies, "missing", model=summary.model)
    numeric = [feature.name for feature in summary.features if not feature.is_categorical]
    # A column with missing values is split in two ways at each edge, and so gains more by chance.
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
    return EncodedRows(
        matrix=to_matrix(encoded.with_columns(added)),
        target=target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes),
        weights=weight_vector(rows, summary.weight),
        queries=query_numbers(rows, summary.objective),
    )


def _judge_fold(fold: int, gain: Vector, losses: Vector, columns: _Columns) -> pl.DataFrame:
    """Return one row for each column, including noise: its figures, those of the noise of its type, and the verdict.

    `gain` is (columns,), and `losses` is (repeats, columns).
    """
    measured = pl.DataFrame(
        {
            "feature": [feature.name for feature in columns.features],
            "is_noise": columns.is_noise,
            "is_categorical": columns.is_categorical,
            "gain": gain,
            "permutation": losses.mean(axis=0),
            "permutation_std": losses.std(axis=0, ddof=1),
        }
    )
    is_used, noise = pl.col("gain") > 0, pl.col("is_noise")
    # A few repeats give a poor estimate of one feature's spread. It is pooled over features.
    variance = (pl.col("permutation_std") ** 2).filter(is_used).mean().fill_null(0.0)

    def of_noise(name: str) -> pl.Expr:
        return pl.col(name).filter(noise)

    compared = measured.with_columns(
        pl.lit(fold, pl.Int64).alias("fold"),
        (variance / losses.shape[0]).sqrt().alias("standard_error"),
        of_noise("gain").max().over("is_categorical").alias("noise_gain"),
        pl.max_horizontal(of_noise("permutation").max().over("is_categorical"), 0.0).alias("noise_permutation"),
        pl.min_horizontal(of_noise("permutation").min().over("is_categorical"), 0.0).alias("noise_harm"),
    )
    two_errors = 2 * pl.col("standard_error")
    harms = ~noise & is_used & (pl.col("permutation") < pl.col("noise_harm") - two_errors)
    costs = pl.col("permutation") > pl.col("noise_permutation") + two_errors
    is_above = (pl.col("gain") > pl.col("noise_gain")) | costs
    is_far_above = (pl.col("noise_gain") > 0) & (pl.col("gain") > CLEARLY * pl.col("noise_gain"))
    return compared.with_columns(
        harms.alias("harms"),
        (~harms & (costs | is_far_above)).alias("clearly"),
        (~noise & is_used & is_above & ~harms).alias("beats_noise"),
    )


def _table(compared: pl.DataFrame, shap: Vector, *, is_constant: Sequence[bool], room: int) -> pl.DataFrame:
    """Return the table of importances. `room` is how many features may be selected though some do not beat noise."""
    folds = int(compared["fold"].n_unique())
    counts = compared.group_by("feature", maintain_order=True).agg(
        pl.col("beats_noise").sum().alias("beats"),
        pl.col("harms").sum(),
        pl.col("clearly").any(),
        (pl.col("gain") > 0).any().alias("is_used"),
        ((pl.col("gain") > 0) | (pl.col("noise_gain") > 0)).sum().alias("judged"),
    )
    last = compared.filter(pl.col("fold") == folds).drop("harms", "clearly", "beats_noise")
    figures = last.join(counts, on="feature", how="left", maintain_order="left").with_columns(
        shap=pl.Series(shap), is_constant=pl.Series([*is_constant, *[False] * int(last["is_noise"].sum())])
    )
    is_noise, beats, harms, judged = (pl.col(name) for name in ("is_noise", "beats", "harms", "judged"))
    others = (
        pl.when(judged < folds)
        .then(pl.format("; in {} neither it nor noise was used", pl.lit(folds) - judged))
        .otherwise(pl.lit(""))
    )
    # The strongest copy of each kind of noise is the one that features had to beat, so only it is listed.
    is_strongest = pl.col("gain").rank("ordinal", descending=True).over("is_noise", "is_categorical") == 1
    kind = pl.when("is_categorical").then(pl.lit(NOISE_CATEGORICAL)).otherwise(pl.lit(NOISE_NUMERIC))
    # By chance, the gain is above that of two copies of noise in every third fold.
    above = (2 * beats >= judged) & ((2 * judged > folds) | pl.col("clearly")) & pl.col("is_used") & ~is_noise
    is_doubtful = ~above & (2 * harms < judged) & pl.col("is_used") & ~pl.col("is_constant") & ~is_noise
    place = pl.when(is_doubtful).then("shap").rank("ordinal", descending=True)
    stays = above | (place + above.sum() <= room).fill_null(value=False)
    is_left_over = pl.lit(room > 0) & is_doubtful & ~stays
    return (
        figures.filter(~is_noise | is_strongest)
        .with_columns(
            feature=pl.when(is_noise).then(kind).otherwise("feature"),
            gain_share=share_of_total("gain"),
            shap_share=share_of_total("shap"),
            stability=beats / pl.max_horizontal(judged, 1),
            beats_noise=above,
            # If no feature beats noise, all are used: the gate rejects a model without signal.
            is_selected=stays | (~above.any() & ~is_noise),
            reason=pl.when(is_noise)
            .then(pl.format("injected noise, the strongest of {}", kind.replace_strict(COPIES)))
            .when(~above.any())
            .then(pl.lit("no feature beats noise; all are selected, and the gate judges the model"))
            .when("is_constant")
            .then(pl.lit("the same value in every train row"))
            .when(~pl.col("is_used"))
            .then(pl.lit("gain 0.0 in every fold"))
            .when(above)
            .then(pl.format("beats noise in {} of {} folds{}", beats, judged, others))
            .when(stays)
            .then(pl.lit("too few rows to tell it from noise"))
            .when(is_left_over)
            .then(pl.format("too few rows for more than {} features; others say more", pl.lit(room)))
            .when(2 * harms >= judged)
            .then(pl.format("the model is better without it in {} of {} folds{}", harms, judged, others))
            .when(2 * beats >= judged)
            .then(pl.format("does not clearly beat noise{}", others))
            .otherwise(pl.format("does not beat noise in {} of {} folds{}", judged - beats, judged, others)),
        )
        .sort(["shap", "gain", "feature"], descending=[True, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1))
        .select(list(_SCHEMA))
        .cast(_SCHEMA)
    )
