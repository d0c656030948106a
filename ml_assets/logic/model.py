"""A LightGBM model as text: the one place where rows become numbers, for training and for prediction alike.

Choosing features and parameters, and sketching the drift reference, stay out: see `importances`, `tuning`, `drift`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Feature, Model, ModelSpec, Task, TrainingSet, TrainingSetSummary, Unseen
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.lightgbm_threads import THREADS

if TYPE_CHECKING:
    from lightgbm import Booster, Dataset
    from lightgbm.callback import CallbackEnv

Parameters = dict[str, float | int | str | bool]
Device = Literal["cpu", "gpu", "cuda"]
OnRound = Callable[[int, float], None]
Matrix = NDArray[np.float32]
Vector = NDArray[np.float64]
Trainer = Callable[[Matrix, Vector, Sequence[Feature], Parameters, int], "Booster"]
"""Trains on rows with these features, as `full_parameters` says, so many rounds."""

DEFAULTS: Final[Mapping[str, float | int | str | bool]] = {
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "cat_smooth": 20.0,
}
"""Sensible for 10^5 to 10^6 rows; the first trial of every study."""

BINNING: Final[Mapping[str, float | int | str | bool]] = {
    "max_bin": 255,
    "min_data_in_bin": 3,
    "bin_construct_sample_cnt": 200_000,
    # True would drop features by the first trial's min_data_in_leaf and refuse a later trial's smaller one.
    "feature_pre_filter": False,
}
"""Fixed when rows are binned; one binned data set then serves every trial."""

FEW_ROWS: Final = 512
"""Up to here a second thread costs more than it brings."""

_OBJECTIVES: Final[Mapping[Task, str]] = {"binary": "binary", "regression": "regression", "multiclass": "multiclass"}
_OWN: Final = frozenset(
    {
        "objective",
        "num_class",
        "metric",
        "num_iterations",
        "early_stopping_round",
        "categorical_feature",
        "deterministic",
        "force_row_wise",
        "force_col_wise",
        "verbosity",
        "feature_pre_filter",
    }
)
"""Parameters that follow from the declaration's other fields."""


@dataclass(frozen=True)
class Binned:
    """Train rows, and validation rows where asked, as LightGBM data sets that any number of fits may share."""

    features: tuple[Feature, ...]
    vocabularies: dict[str, tuple[str, ...]]
    train: Dataset
    validation: Dataset | None


def type_problem(feature: Feature, dtype: pl.DataType) -> str | None:
    """Return why a column cannot be this feature, or None.

    LightGBM's Arrow reader aborts the whole process on text, dates and decimals; this is the check before it.
    """
    if dtype == pl.Null:
        return None
    if feature.is_categorical:
        if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean) or dtype.is_integer():
            return None
        return (
            f"feature '{feature.name}' is {dtype}; a categorical one is text, whole numbers or Boolean. "
            "Cast it in its table."
        )
    if dtype == pl.Boolean or dtype.is_numeric():
        return None
    hint = (
        "Mark it categorical in its table's contract"
        if dtype in (pl.String, pl.Categorical, pl.Enum)
        else "Cast it in its table"
    )
    return f"feature '{feature.name}' is {dtype}; expected a number or Boolean. {hint}, or drop it."


def check_columns(frame: pl.DataFrame | pl.LazyFrame, features: Sequence[Feature], *, model: str) -> None:
    """Check that a frame has every feature of a model in a type it can take.

    Raises:
        ContractError: Missing or mistyped columns, all of them listed.
    """
    schema = frame.collect_schema()
    problems = [
        f"column '{feature.name}' is missing; the contract of model '{model}' wants it. "
        "Rebuild the feature table, or train a model without it."
        for feature in features
        if feature.name not in schema
    ]
    mistyped = (type_problem(feature, schema[feature.name]) for feature in features if feature.name in schema)
    problems += [problem for problem in mistyped if problem]
    if len(problems) == 1:
        raise ContractError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ContractError(f"the rows break the contract of model '{model}' in {len(problems)} columns:\n{listed}")


def fit_vocabularies(train: pl.DataFrame, features: Sequence[Feature]) -> dict[str, tuple[str, ...]]:
    """Return the sorted categories of each categorical feature, as seen in these rows."""
    names = [feature.name for feature in features if feature.is_categorical]
    if not names:
        return {}
    seen = train.select(pl.col(name).cast(pl.String).drop_nulls().unique().sort().implode() for name in names)
    return {name: tuple(seen.get_column(name)[0]) for name in names}


def encode(
    frame: pl.DataFrame,
    features: Sequence[Feature],
    vocabularies: Mapping[str, Sequence[str]],
    unseen: Unseen,
    *,
    model: str = "",
) -> pl.DataFrame:
    """Turn rows into numbers: the same function for training, batch and online.

    Args:
        frame: Rows with at least the features' columns.
        features: What to encode, in this order.
        vocabularies: The categories of each categorical feature; a category's code is its place therein.
        unseen: What to do with a category outside the vocabulary: make it missing, or refuse the rows.
        model: Name of the model, for messages.

    Returns:
        Float32 (numbers, Booleans) and Int32 (category codes) columns; missing stays null.

    Raises:
        ContractError: Missing or mistyped columns.
        DataError: Unseen categories, where they are declared an error.
    """
    check_columns(frame, features, model=model)
    encoded = frame.select(
        pl.col(feature.name)
        .cast(pl.String)
        .cast(pl.Enum(vocabularies[feature.name]), strict=False)
        .to_physical()
        .cast(pl.Int32)
        if feature.is_categorical
        else pl.col(feature.name).cast(pl.Float32)
        for feature in features
    )
    if unseen == "error":
        _raise_unseen(frame, encoded, features, model)
    return encoded


def _raise_unseen(frame: pl.DataFrame, encoded: pl.DataFrame, features: Sequence[Feature], model: str) -> None:
    problems = []
    for name in (feature.name for feature in features if feature.is_categorical):
        lost = frame.get_column(name).filter(encoded.get_column(name).is_null() & frame.get_column(name).is_not_null())
        if lost.len():
            sample = ", ".join(f"'{value}'" for value in lost.cast(pl.String).unique().sort().head(5))
            problems.append(f"'{name}' has {lost.len()} rows with {sample}")
    if problems:
        raise DataError(
            f"categories that model '{model}' has not seen in training: {'; '.join(problems)}. "
            "Train again on rows that hold them, or declare unseen: missing."
        )


def to_matrix(encoded: pl.DataFrame) -> Matrix:
    """Return encoded columns as a row-major float32 matrix; null becomes NaN, LightGBM's missing.

    Category codes are exact in float32 up to 2^24.
    """
    if encoded.width == 0:
        return np.empty((encoded.height, 0), dtype=np.float32)
    return encoded.select(pl.all().cast(pl.Float32)).to_numpy(order="c")


def target_vector(frame: pl.DataFrame, *, target: str, task: Task, classes: Sequence[str]) -> Vector:
    """Return the target as numbers: 0/1, the value, or the index of the class in `classes`.

    Raises:
        DataError: A missing target; LightGBM would take it without a word.
    """
    column = frame.get_column(target)
    if task == "multiclass":
        numbers = column.cast(pl.String).cast(pl.Enum(classes), strict=False).to_physical().cast(pl.Float64)
    else:
        numbers = column.cast(pl.Float64)
    lost = numbers.null_count() + int(numbers.is_nan().sum())
    if lost:
        expected = f"one of {', '.join(classes)}" if task == "multiclass" else "a number"
        raise DataError(
            f"target '{target}' is not {expected} in {lost} of {frame.height} rows. Assemble the training set again."
        )
    return numbers.to_numpy()


def chosen_features(summary: TrainingSetSummary, names: Sequence[str]) -> tuple[Feature, ...]:
    """Return the named features in the training set's order, so that a model does not depend on how they are listed.

    Raises:
        DataError: A name the training set does not have, or no name at all.
    """
    known = [feature.name for feature in summary.features]
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        got = ", ".join(f"'{name}'" for name in unknown) or "none"
        raise DataError(
            f"features asked for of model '{summary.model}': {got}; its training set has {', '.join(known)}. "
            "Materialize importances again on this training set."
        )
    return tuple(feature for feature in summary.features if feature.name in set(names))


def canonical_parameters(parameters: Mapping[str, float | int | str | bool]) -> Parameters:
    """Return parameters under LightGBM's main names, so that an alias replaces a default instead of joining it.

    LightGBM itself ignores what it does not know when it is told to be quiet.

    Raises:
        ContractError: A parameter that LightGBM does not know, one given twice, or one the project sets itself.
    """
    main = _main_names()
    problems: list[str] = []
    canonical: Parameters = {}
    for name, value in parameters.items():
        known = main.get(name)
        if known is None:
            near = difflib.get_close_matches(name, sorted(set(main.values())), n=1)
            problems.append(f"'{name}' is not known to LightGBM{f' (did you mean {near[0]!r}?)' if near else ''}")
        elif known in _OWN:
            problems.append(f"'{name}' follows from the declaration's task, metric and budget and cannot be set")
        elif known in canonical:
            problems.append(f"'{name}' is another name of '{known}', which is given too")
        else:
            canonical[known] = value
    if problems:
        raise ContractError(f"LightGBM parameters: {'; '.join(problems)}. Correct them in the model's declaration.")
    return canonical


@lru_cache(maxsize=1)
def _main_names() -> dict[str, str]:
    # The C library's own list; the Python package offers no public way to it (4.7.0).
    from lightgbm.basic import _ConfigAliases

    aliases = _ConfigAliases._get_all_param_aliases()  # noqa: SLF001
    return {name: main for main, others in aliases.items() for name in (main, *others)}


def full_parameters(
    task: Task,
    parameters: Mapping[str, float | int | str | bool],
    *,
    classes: Sequence[str] = (),
    seed: int,
    threads: int,
    device: Device = "cpu",
    metric: str = "None",
) -> Parameters:
    """Return all that LightGBM is told: what was chosen, over the defaults, under what makes it deterministic.

    Args:
        task: Sets the objective.
        parameters: What was chosen; seed, threads and device in it must agree with the arguments.
        classes: The classes of a multiclass target.
        seed: Of rows and columns drawn.
        threads: The trees do not depend on it.
        device: Where histograms are built; only "cpu" is deterministic.
        metric: LightGBM's name of the validation metric, or "None".

    Raises:
        ContractError: Unknown, reserved or contradicting parameters.
    """
    run: Parameters = {"seed": seed, "num_threads": threads, "device_type": device}
    chosen = canonical_parameters(parameters)
    clash = {name: chosen[name] for name in run if name in chosen and chosen[name] != run[name]}
    if clash:
        got = ", ".join(f"{name}={value} (run with {run[name]})" for name, value in clash.items())
        raise ContractError(
            f"LightGBM parameters: {got}. Set seed, threads and device in the model's declaration only."
        )
    fixed: Parameters = {
        "objective": _OBJECTIVES[task],
        "metric": metric,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        **run,
    }
    if task == "multiclass":
        fixed["num_class"] = len(classes)
    return {**DEFAULTS, **BINNING, **chosen, **fixed}


def bin_training_set(
    training: TrainingSet, features: Sequence[Feature], parameters: Parameters, *, with_validation: bool
) -> Binned:
    """Encode and bin the rows once; every fit with the same bin parameters may use the result.

    Args:
        training: The frozen rows; vocabularies come from its train rows only.
        features: What to use, in this order.
        parameters: As `full_parameters` gives them; only those about binning (`BINNING`) and the seed matter here.
        with_validation: Whether validation rows are binned too, with the train rows' borders.

    Raises:
        ContractError: Mistyped columns.
        DataError: Missing targets.
    """
    train = training.part("train")
    vocabularies = fit_vocabularies(train, features)

    def binned(rows: pl.DataFrame, reference: Dataset | None) -> Dataset:
        matrix, target = _numbers(training, rows, features, vocabularies)
        return bin_rows(matrix, target, features=features, parameters=parameters, reference=reference)

    train_set = binned(train, None)
    return Binned(
        features=tuple(features),
        vocabularies=vocabularies,
        train=train_set,
        validation=binned(training.part("validation"), train_set) if with_validation else None,
    )


def _numbers(
    training: TrainingSet,
    rows: pl.DataFrame,
    features: Sequence[Feature],
    vocabularies: Mapping[str, Sequence[str]],
) -> tuple[Matrix, Vector]:
    summary = training.summary
    matrix = to_matrix(encode(rows, features, vocabularies, "missing", model=summary.model))
    return matrix, target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)


def bin_rows(
    matrix: Matrix,
    target: Vector,
    *,
    features: Sequence[Feature],
    parameters: Parameters,
    reference: Dataset | None = None,
) -> Dataset:
    """Return a constructed data set; the matrix is not kept.

    Args:
        matrix: (rows, features) as `to_matrix` gives it.
        target: (rows,) as `target_vector` gives it.
        features: The columns, in order.
        parameters: As `full_parameters` gives them.
        reference: A data set whose bin borders to use.
    """
    import lightgbm

    data = lightgbm.Dataset(
        matrix,
        label=target,
        reference=reference,
        feature_name=[feature.name for feature in features],
        categorical_feature=[index for index, feature in enumerate(features) if feature.is_categorical],
        params=dict(parameters),
        free_raw_data=True,
    )
    with THREADS.exactly(_threads(parameters)):
        return data.construct()


def boost(
    binned: Binned,
    parameters: Parameters,
    *,
    rounds: int,
    early_stopping: int | None = None,
    callbacks: Sequence[Callable[[CallbackEnv], None]] = (),
) -> Booster:
    """Train on binned rows.

    Args:
        binned: Rows; with a validation set it is evaluated after each round.
        parameters: As `full_parameters` gives them, with the bin parameters that the rows were binned with.
        rounds: Boosting rounds, at most.
        early_stopping: Stop after so many rounds without a better validation metric; `best_iteration` then counts.
        callbacks: LightGBM callbacks.
    """
    import lightgbm

    stops = [] if early_stopping is None else [lightgbm.early_stopping(early_stopping, verbose=False)]
    with THREADS.exactly(_threads(parameters)):
        return lightgbm.train(
            dict(parameters),
            binned.train,
            num_boost_round=rounds,
            valid_sets=None if binned.validation is None else [binned.validation],
            valid_names=None if binned.validation is None else ["validation"],
            callbacks=[*callbacks, *stops],
        )


def _threads(parameters: Parameters) -> int:
    return int(parameters["num_threads"])


def fit(
    training: TrainingSet,
    *,
    features: Sequence[str],
    parameters: Mapping[str, float | int | str | bool],
    rounds: int,
    seed: int,
    reference: pl.DataFrame,
    threads: int = 2,
    device: Device = "cpu",
    unseen: Unseen = "missing",
    on_round: OnRound | None = None,
    trainer: Trainer | None = None,
) -> Model:
    """Train the model on the train rows alone; validation and test rows are not looked at.

    With `parameters` and `rounds` of a study's best trial this gives that trial's trees again, byte for byte.

    Args:
        training: The frozen rows.
        features: Names of the features to use.
        parameters: Over `DEFAULTS`; a spec's own parameters may be given back to train it again.
        rounds: Boosting rounds.
        seed: Equal seeds give equal trees.
        reference: The sketch that drift is measured against, kept with the model.
        threads: Recorded in the text's last section; the trees do not depend on it.
        device: Where histograms are built; only "cpu" is deterministic.
        unseen: What `predict` does with a category outside the vocabulary.
        on_round: Told after each round its number, from 1, and the share of the rounds done.
        trainer: Trains instead of this process, which tells no rounds then; see `distributed`.

    Raises:
        DataError: Unknown features, no rounds, missing targets.
        ContractError: Mistyped columns or parameters.
    """
    import lightgbm

    summary = training.summary
    if rounds < 1:
        raise DataError(
            f"model '{summary.model}' was asked to train {rounds} rounds; expected at least 1. Tune it again."
        )
    chosen = chosen_features(summary, features)
    told = full_parameters(summary.task, parameters, classes=summary.classes, seed=seed, threads=threads, device=device)
    if trainer is None:
        binned = bin_training_set(training, chosen, told, with_validation=False)
        vocabularies = binned.vocabularies
        booster = boost(binned, told, rounds=rounds, callbacks=[] if on_round is None else [_progress(on_round)])
    else:
        train = training.part("train")
        vocabularies = fit_vocabularies(train, chosen)
        booster = trainer(*_numbers(training, train, chosen, vocabularies), chosen, told, rounds)
    window = next(window for window in summary.windows if window.split == "train")
    return Model(
        booster=booster.model_to_string(num_iteration=-1),
        spec=ModelSpec(
            model=summary.model,
            task=summary.task,
            target=summary.target,
            classes=summary.classes,
            features=chosen,
            vocabularies=vocabularies,
            unseen=unseen,
            parameters={name: value for name, value in told.items() if name not in _OWN},
            rounds=rounds,
            as_of=summary.as_of,
            trained_first_day=window.first_day,
            trained_last_day=window.last_day,
            trained_until=max(window.last_day for window in summary.windows if window.split != "test"),
            training_rows=window.rows,
            lightgbm_version=lightgbm.__version__,
        ),
        reference=reference,
    )


def predict(model_text: str, spec: ModelSpec, frame: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
    """Score rows.

    Args:
        model_text: The booster as LightGBM text; parsed once and kept.
        spec: What the text needs beside it.
        frame: Rows with at least the model's features.
        threads: For many rows; few are scored by one.

    Returns:
        In the order of the rows: `score` (probability of the positive class, or the value); for multiclass the
        probability of the predicted class, `predicted`, and `score_<class>` for each class.

    Raises:
        ContractError: Missing or mistyped columns, or a text that is not this spec's model.
        DataError: Unseen categories, where they are declared an error.
    """
    booster = load_booster(model_text, tuple(feature.name for feature in spec.features), spec.model)
    matrix = to_matrix(encode(frame, spec.features, spec.vocabularies, spec.unseen, model=spec.model))
    scores = raw_scores(booster, matrix, classes=len(spec.classes), threads=threads)
    if spec.task != "multiclass":
        return pl.DataFrame({"score": scores}, schema={"score": pl.Float64})
    best = scores.argmax(axis=1)
    return pl.DataFrame(
        {
            "score": scores[np.arange(len(best)), best],
            "predicted": pl.Series(best, dtype=pl.Int64).replace_strict(
                range(len(spec.classes)), spec.classes, return_dtype=pl.String
            ),
            **{f"score_{name}": scores[:, index] for index, name in enumerate(spec.classes)},
        }
    )


def contributions(model_text: str, spec: ModelSpec, frame: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
    """Return the mean |SHAP| of each feature over these rows, in the model's raw units (log odds for binary).

    LightGBM's own exact TreeSHAP (Lundberg et al. 2018, arXiv:1802.03888); classes are summed.

    Returns:
        `feature`, `mean_abs_shap`, in the model's order.

    Raises:
        ContractError: Missing or mistyped columns, or a text that is not this spec's model.
        DataError: No rows.
    """
    booster = load_booster(model_text, tuple(feature.name for feature in spec.features), spec.model)
    matrix = to_matrix(encode(frame, spec.features, spec.vocabularies, spec.unseen, model=spec.model))
    return pl.DataFrame(
        {
            "feature": [feature.name for feature in spec.features],
            "mean_abs_shap": mean_contributions(booster, matrix, threads=threads),
        }
    )


def raw_scores(booster: Booster, matrix: Matrix, *, classes: int, threads: int) -> Vector:
    """Return (rows,) scores, or (rows, classes) for multiclass."""
    if matrix.shape[0] == 0:
        return np.empty((0, classes) if classes else (0,))
    with THREADS.about(1 if matrix.shape[0] <= FEW_ROWS else threads) as agreed:
        return np.asarray(booster.predict(matrix, num_threads=agreed), dtype=np.float64)


def mean_contributions(booster: Booster, matrix: Matrix, *, threads: int) -> Vector:
    """Return (features,) the mean |SHAP| over the rows, summed over classes.

    Raises:
        DataError: No rows to explain.
    """
    rows, width = matrix.shape
    if rows == 0:
        raise DataError("there are no rows to explain; expected at least one. Widen the window.")
    with THREADS.about(threads) as agreed:
        values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=agreed), dtype=np.float64)
    # One block of (features + expected value) a class.
    blocks = np.abs(values.reshape(rows, -1, width + 1)[:, :, :width])
    return np.asarray(blocks.sum(axis=1).mean(axis=0), dtype=np.float64)


@lru_cache(maxsize=8)
def load_booster(model_text: str, names: tuple[str, ...], model: str) -> Booster:
    """Return the booster of a text, parsed once.

    Raises:
        ContractError: The text is cut off, is no LightGBM model, or has other features than its spec.
    """
    import lightgbm

    mend = "Restore the artifact, or train the model again."
    # LightGBM reads a text cut inside a tree as garbage or dies of it; its closing line is looked for first.
    if not model_text.startswith("tree\n") or "\nend of trees\n" not in model_text:
        raise ContractError(f"the text of model '{model}' is not a whole LightGBM model. {mend}")
    try:
        booster = lightgbm.Booster(model_str=model_text)
    except lightgbm.basic.LightGBMError as error:
        raise ContractError(f"the text of model '{model}' cannot be read by LightGBM: {error}. {mend}") from error
    got = tuple(booster.feature_name())
    if got != names:
        raise ContractError(
            f"the text of model '{model}' has the features {', '.join(got)}; its spec has {', '.join(names)}. {mend}"
        )
    return booster


def _progress(on_round: OnRound) -> Callable[[CallbackEnv], None]:
    def tell(env: CallbackEnv) -> None:
        done = env.iteration - env.begin_iteration + 1
        on_round(done, done / (env.end_iteration - env.begin_iteration))

    return tell
