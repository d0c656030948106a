"""Contracts of the frames that Python stages write: labels, predictions, drift, performance, importances, trials.

Not here: tables that dbt builds, whose contracts are written in YAML (see `ml_assets.contracts.from_dbt`). These are
pandera schemas, created when a stage first needs one, because importing pandera takes 0.2 s.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ml_assets.contracts.artifacts.training import INTERVAL, Feature, Task
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.objective import HIGHEST_GRADE, Objective
from ml_assets.contracts.periods import BY_DAY, HOUR, Calendar, Grain
from ml_assets.contracts.table import PERSONAL

if TYPE_CHECKING:
    import pandera.polars as pa

TIME: Final = pl.Datetime("us")
GRADES: Final = f"whole numbers from 0 to {HIGHEST_GRADE}"
"""The labels of a ranking."""
CLASS_SUM: Final = 1e-3  # LightGBM rounds the scores of classes
TRIAL_COLUMNS: Final = ("trial", "state", "value", "rounds", "is_best", "curve_steps", "curve")
"""The columns of a study's trials before those of the searched parameters."""


@dataclass(frozen=True)
class ModelColumns:
    """A model's task with the columns of its tables.

    Attributes:
        name: the model's name, for messages and summaries.
        task: its task.
        target: the label column.
        key: the columns that identify a prediction, in features and labels.
        event_time: the features' column with the event time. Times are UTC without a zone.
        prediction_time: the features' column with the prediction time.
        known_time: the labels' column with the time when a version of a label could first be known.
        features: the input columns, in the order in which the model gets them.
        timezone: the time zone of the days.
        grain: the grain of the partitions.
        personal: columns whose values no message shows.
        objective: the declared objective of a regression or a ranking; None for the task's own.
        positive: the value of the target in the label table that is the positive class; None if it is Boolean or 0 and
            1. The labels themselves are then Boolean.
        group: the features' column of the groups whose rows are not independent; None if there is none.
        weight: the labels' column with the weight of each row; None if all rows count alike.
    """

    name: str
    task: Task
    target: str
    key: tuple[str, ...]
    event_time: str
    prediction_time: str
    known_time: str
    features: tuple[Feature, ...] = ()
    timezone: str = "UTC"
    personal: frozenset[str] = frozenset()
    objective: Objective | None = None
    positive: bool | int | str | None = None
    group: str | None = None
    weight: str | None = None
    grain: Grain = BY_DAY

    @property
    def calendar(self) -> Calendar:
        """The calendar of the partitions."""
        return Calendar(self.grain, self.timezone)

    @property
    def identified(self) -> tuple[str, ...]:
        """The columns that no row of the features may lack: key, day, hour if by the hour, times, group and query."""
        period = self.calendar.columns
        return tuple(dict.fromkeys([*self.key, *period, self.event_time, self.prediction_time, *self.together]))

    @property
    def query(self) -> str | None:
        """The column within whose values rows are ranked; None if the model is no ranking."""
        return None if self.objective is None else self.objective.query

    @property
    def together(self) -> tuple[str, ...]:
        """The group and the query, each once; empty if there are none."""
        return tuple(dict.fromkeys(it for it in (self.group, self.query) if it is not None))

    @property
    def label_values(self) -> list[str]:
        """The columns of a label: target, and weight if there is one."""
        return [self.target, *([] if self.weight is None else [self.weight])]

    @property
    def label_key(self) -> list[str]:
        """The columns that identify a version of a label, each once."""
        return list(dict.fromkeys([*self.key, self.known_time]))


_FIX: Final = "Fix the stage that computes them, or its inputs; see ml_assets/contracts/frames.py."


def check_frames(
    frames: Sequence[pl.DataFrame], schema: pa.DataFrameSchema, *, personal: Collection[str] = (), fix: str = _FIX
) -> None:
    """Check frames of one kind, such as the days of a range, against their schema, all at once.

    Values of `personal` columns are not shown. `fix` is how to fix them.

    Raises:
        ContractError: rules are broken; the message lists each with the number of rows and examples.
    """
    import pandera.errors

    try:
        schema.validate(pl.concat(frames), lazy=True)
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"{schema.name}: the frames of one run have different columns: {error}.") from error
    except pandera.errors.SchemaErrors as error:
        is_type, cases = pl.col("check").str.starts_with("dtype("), error.failure_cases
        wrong_type = pl.col("column").is_in(cases.filter(is_type)["column"].to_list()).fill_null(value=False)
        # Other rules of a column of another type cannot be checked.
        broken = (
            cases.filter(is_type | ~wrong_type)
            .group_by("column", "check", maintain_order=True)
            .agg(pl.len().alias("rows"), pl.col("failure_case").unique(maintain_order=True).head(3).alias("examples"))
        )
        listed = "\n".join(f"- {_sentence(**row, personal=personal)}" for row in broken.iter_rows(named=True))
        raise ContractError(f"{schema.name} break their contract and are not stored:\n{listed}\n{fix}") from error


def _sentence(column: str, check: str, rows: int, examples: list[str | None], personal: Collection[str]) -> str:
    if column in personal and not check.startswith("dtype("):
        examples = [PERSONAL]
    shown = ", ".join(str(example) for example in examples)
    if check.startswith("dtype("):
        return f"column '{column}' is {shown}; expected {check.removeprefix('dtype(').strip(chr(39) + ')')}."
    sentences = {
        "column_in_dataframe": f"columns are missing: {shown}.",
        "column_in_schema": f"columns are not expected: {shown}.",
        "column_ordered": f"columns are in another order, the first of them is {examples[0]}.",
        "not_nullable": f"column '{column}' is missing in {rows} rows; expected none.",
    }
    return sentences.get(check, f"{check}: broken in {rows} rows, for instance by {shown}.")


def is_grade(value: pl.Expr) -> pl.Expr:
    """Return whether a whole number is a grade of a ranking."""
    return value.cast(pl.Int64).is_between(0, HIGHEST_GRADE)


def labels_table(model: ModelColumns, *, has_reason: bool = False) -> pa.DataFrameSchema:
    """Return the schema of labels: key, day, known time, target and its weight. A null target has no label."""
    known_time, target = model.known_time, model.target
    truth = {
        "binary": [_rule(f"'{target}' is 0 or 1", lambda it: it.cast(pl.Float64).is_in([0.0, 1.0]))],
        "regression": [_rule(f"'{target}' is a finite number", lambda it: it.cast(pl.Float64).is_finite())],
        "multiclass": [],
        "ranking": [_rule(f"'{target}' is one of the {GRADES}", is_grade)],
    }
    lowest = None if model.objective is None else model.objective.lowest_label
    if lowest is not None and model.objective is not None:
        rule = f"'{target}' is {lowest:g} or more, as the objective {model.objective.words} needs"
        truth["regression"].append(_rule(rule, lambda it: it.cast(pl.Float64) >= lowest))
    dtypes = {DAY: pl.Date, HOUR: TIME}
    columns: dict[str, pa.Column] = {
        **{
            name: _column(
                dtypes[name], _rule(f"'{name}' is the {name} of the known time", functools.partial(operator.eq, of))
            )
            for name, of in model.calendar.columns_of(pl.col(known_time)).items()
        },
        **{name: _column() for name in model.key},
        "event_day": _column(pl.Date),
        known_time: _column(TIME),
        target: _column(None, *truth[model.task], nullable=True),
        **({} if model.weight is None else {model.weight: _column(pl.Float64, nullable=True)}),
        **({"reason": _column(pl.String, nullable=True)} if has_reason else {}),
    }
    return _schema("labels", columns)


def _finite(name: str) -> pa.Check:
    return _rule(f"'{name}' is a finite number", lambda it: it.is_finite())


def predictions_table(
    *,
    key: Sequence[str],
    prediction_time: str,
    task: Task,
    classes: Sequence[str] = (),
    has_interval: bool = False,
    together: Sequence[str] = (),
    combined_by: str | None = None,
) -> pa.DataFrameSchema:
    """Return the schema of predictions: an id, a score of the task, and the feature row, for each prediction.

    Predictions also have the columns whose values a split keeps `together`: group and query. Predictions of several
    models that are `combined_by` a column have it and the model's name instead of the feature row.
    """
    is_share = _between("score", 0, 1)
    identified = {name: _column() for name in key} | {"day": _column(pl.Date), prediction_time: _column(TIME)}
    identified |= {name: _column() for name in together if name not in identified}
    columns: dict[str, pa.Column] = {
        "prediction_id": _column(
            pl.String,
            _rule("'prediction_id' is unique within its day", lambda it: ~pl.struct(it, "day").is_duplicated()),
        ),
        **identified,
        "score": _column(pl.Float64, _finite("score") if task in ("regression", "ranking") else is_share),
    }
    if has_interval:
        columns |= {name: _column(pl.Float64, _finite(name)) for name in INTERVAL}
    if task == "multiclass":
        names = [f"score_{name}" for name in classes]
        columns["predicted"] = _column(
            pl.String, _rule("'predicted' is a class of the model", lambda it: it.is_in(list(classes)))
        )
        columns |= {name: _column(pl.Float64, _between(name, 0, 1)) for name in names}
        total = _rule("the scores of all classes sum to 1", lambda _: (pl.sum_horizontal(names) - 1).abs() <= CLASS_SUM)
        columns[names[-1]].checks.append(total)
    made_from = {
        "model_version": _column(pl.String),
        "features_version": _column(pl.String),
        "features": _column(),
    }
    if combined_by is not None:
        del made_from["features"]
        columns |= {"model_name": _column(pl.String)}
        also = {} if combined_by in columns else {combined_by: _column(nullable=True)}
        return _schema("combined predictions", columns | made_from | also)
    return _schema("predictions", columns | made_from)


def shadow_predictions_table(model: ModelColumns) -> pa.DataFrameSchema:
    """Return the schema of the predictions of challengers in shadow.

    It is that of predictions without what differs between challengers: the feature row, scores of classes, intervals.
    """
    import pandera.polars as pa

    table = predictions_table(
        key=model.key,
        prediction_time=model.prediction_time,
        task="binary" if model.task == "multiclass" else model.task,
        together=model.together,
    ).remove_columns(["features"])
    if model.task == "multiclass":
        table = table.add_columns({"predicted": pa.Column(pl.String)})
    table.name = "shadow predictions"
    return table


@functools.cache
def drift_table() -> pa.DataFrameSchema:
    """Return the schema of drift tables: for each model version, one row per feature and one for the score.

    Figures are null if a day is not judged.
    """
    share = {name: _figure(name, 0, 1) for name in ("null_share", "null_share_reference", "new_category_share")}
    columns: dict[str, pa.Column] = {
        "model_version": _column(pl.String),
        "feature": _column(pl.String),
        "kind": _column(pl.String, _one_of("kind", ("numeric", "categorical", "score"))),
        "rows": _column(pl.Int64, _between("rows", 0)),
        "psi": _figure("psi", 0),
        "excess_psi": _figure("excess_psi", 0),
        "ks": _figure("ks", 0, 1),
        "normed_wasserstein": _figure("normed_wasserstein", 0),
        **share,
        "weight": _figure("weight", 0, 1),
        "weighted_excess_psi": _figure("weighted_excess_psi", 0),
        "is_over": _column(pl.Boolean),
        "reason": _column(
            pl.String, _rule("'reason' is given for rows over a limit only", lambda it: (it != "") == pl.col("is_over"))
        ),
    }
    return _schema("drift tables", columns)


@functools.cache
def performance_table() -> pa.DataFrameSchema:
    """Return the schema of performance tables: for each model version, one row per metric.

    Each has an interval, or the reason why there is none.
    """
    within = _rule("'low' is not above 'high'", lambda it: it <= pl.col("high"))
    reason = _rule(
        "'reason' is given for a metric without a value", lambda it: (it != "") | pl.col("value").is_not_null()
    )
    columns: dict[str, pa.Column] = {
        "model_version": _column(pl.String),
        "metric": _column(pl.String),
        "value": _figure("value"),
        "low": _column(pl.Float64, within, nullable=True),
        "high": _figure("high"),
        "expected": _figure("expected"),
        "expected_labelled": _figure("expected_labelled"),
        "rows": _column(pl.Int64, _between("rows", 0)),
        "reason": _column(pl.String, reason),
    }
    return _schema("performance tables", columns)


@functools.cache
def importances_table() -> pa.DataFrameSchema:
    """Return the schema of the selection's importances: one row per feature, including the injected noise."""
    return _schema(
        "importances",
        {
            **_importances(),
            "stability": _column(pl.Float64, _between("stability", 0, 1)),
            "beats_noise": _column(pl.Boolean),
            "is_selected": _column(pl.Boolean),
            "reason": _column(pl.String, _rule("'reason' is given", lambda it: it != "")),
            "rank": _rank(),
        },
    )


@functools.cache
def model_importances(*, is_explained: bool = True) -> pa.DataFrameSchema:
    """Return the schema of a trained model's importances: one row for each of its features.

    Without an explanation, gain and SHAP are null, as for an estimator of a person.
    """
    return _schema("importances of the model", {**_importances(may_lack=not is_explained), "rank": _rank()})


def _importances(*, may_lack: bool = False) -> dict[str, pa.Column]:
    return {
        "feature": _column(pl.String, _rule("'feature' is unique", lambda it: it.is_unique())),
        "gain": _column(pl.Float64, _between("gain", 0), nullable=may_lack),
        "gain_share": _column(pl.Float64, _between("gain_share", 0, 1), nullable=may_lack),
        "permutation": _column(pl.Float64, _rule("'permutation' is a finite number", lambda it: it.is_finite())),
        "permutation_std": _column(pl.Float64, _between("permutation_std", 0)),
        "shap": _column(pl.Float64, _between("shap", 0), nullable=may_lack),
        "shap_share": _column(pl.Float64, _between("shap_share", 0, 1), nullable=may_lack),
    }


def _rank() -> pa.Column:
    return _column(
        pl.Int64, _rule("'rank' counts from 1 in the order of rows", lambda it: it == pl.int_range(1, pl.len() + 1))
    )


def trials_table(searched: Sequence[str], *, has_rounds: bool = True) -> pa.DataFrameSchema:
    """Return the schema of a study's trials: one row per trial, with the searched parameters. One is the best.

    Only LightGBM has rounds.
    """
    pruned = _rule(
        "'value' is missing for pruned trials only", lambda it: it.is_null() == (pl.col("state") == "pruned")
    )
    columns: dict[str, pa.Column] = {
        "trial": _column(
            pl.Int64, _rule("'trial' counts from 0 in the order of rows", lambda it: it == pl.int_range(pl.len()))
        ),
        "state": _column(pl.String, _one_of("state", ("complete", "pruned"))),
        "value": _column(
            pl.Float64, pruned, _rule("'value' is a finite number", lambda it: it.is_finite()), nullable=True
        ),
        "rounds": _column(pl.Int64, _between("rounds", 0), nullable=not has_rounds),
        "is_best": _column(pl.Boolean, _rule("one trial is the best", lambda it: (it.sum() == 1) & it.is_not_null())),
        "curve_steps": _column(pl.List(pl.Int64)),
        "curve": _column(pl.List(pl.Float64)),
        **{name: _column() for name in searched},
    }
    return _schema("trials", columns)


def _schema(name: str, columns: dict[str, pa.Column]) -> pa.DataFrameSchema:
    import pandera.polars as pa

    return pa.DataFrameSchema(columns, strict=True, ordered=True, name=name)


def _column(dtype: Any = None, *rules: pa.Check, nullable: bool = False) -> pa.Column:  # noqa: ANN401 - as pandera's
    import pandera.polars as pa

    return pa.Column(dtype, checks=[*rules], nullable=nullable)


def _rule(sentence: str, keeps: Callable[[pl.Expr], pl.Expr]) -> pa.Check:
    """Return a rule on a column, which may also read other columns of its row."""
    import pandera.polars as pa

    def check(data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(keeps(pl.col(data.key or "*")))

    return pa.Check(check, error=sentence)


def _between(name: str, low: float, high: float | None = None) -> pa.Check:
    bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
    upper = float("inf") if high is None else high
    return _rule(f"'{name}' is {bounds}", lambda it: it.is_between(low, upper) & (it < float("inf")))


def _one_of(name: str, values: Sequence[str]) -> pa.Check:
    return _rule(f"'{name}' is one of {', '.join(values)}", lambda it: it.is_in(list(values)))


def _figure(name: str, low: float | None = None, high: float | None = None) -> pa.Column:
    """Return a column of figures that may be null; other values must be finite numbers."""
    finite = _rule(f"'{name}' is a finite number", lambda it: it.is_finite())
    return _column(pl.Float64, finite if low is None else _between(name, low, high), nullable=True)
