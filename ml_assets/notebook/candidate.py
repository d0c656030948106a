"""What new features would add to a model, before anything is declared. Nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Comparison
from ml_assets.contracts.artifacts.training import Feature, TrainingSet, TunedParameters, Tuning
from ml_assets.contracts.boosting_parameters import canonical_parameters
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import Column
from ml_assets.contracts.words import quoted
from ml_assets.lake.store import Lake
from ml_assets.logic.inspection.lone_columns import LonePredictor, lone_predictors
from ml_assets.logic.point_in_time.later_rows import LaterRowsTest, leaks_from_later_rows
from ml_assets.logic.tables.added_features import FeatureFunction, added_columns
from ml_assets.logic.tables.keys import repeated_keys
from ml_assets.logic.training.encoding import type_problem
from ml_assets.logic.training.model import fit
from ml_assets.models.evaluation import Versioned, measure_challenger
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import conditions_of
from ml_assets.models.training_rows import training_set_in
from ml_assets.notebook.artifacts import open_lake, read_plan

ROUNDS: Final = 100
"""The number of rounds if the lake has no tuning of the model."""
SAMPLES: Final = 20
"""The number of prediction times that are tested for leaks."""
ALL_FEATURES: Final = {"feature_fraction": 1.0, "feature_fraction_bynode": 1.0}
"""With a random share of the features for each tree, any new column would change every tree by chance."""
_WITH, _WITHOUT = "with", "without"


@dataclass(frozen=True, repr=False)
class FeatureTrial:
    """What new features add to a model on the same test rows.

    Attributes:
        model: the model.
        columns: the new features.
        comparison: the deciding metric with the new features (`challenger`) and without (`other`); a `difference` above
            zero means that the features help, for metrics of both directions.
        filled: by column, the share of the training set's rows that have a value.
        parameters: which parameters both models were trained with.
        leak_test: the test of the function for values of later rows; None for a frame, which cannot be computed again.
        lone: new features that alone predict the target far better than the others, as a copy of it does.
    """

    model: str
    columns: tuple[str, ...]
    comparison: Comparison
    filled: Mapping[str, float]
    parameters: str
    leak_test: LaterRowsTest | None
    lone: tuple[LonePredictor, ...]

    @property
    def helps(self) -> bool | None:
        """Whether the 95 % interval of the difference is above zero; None if it contains zero or is unknown."""
        low, high = self.comparison.difference.low, self.comparison.difference.high
        if low is None or high is None or low <= 0 <= high:
            return None
        return low > 0

    def __repr__(self) -> str:
        found, difference = self.comparison, self.comparison.difference
        verdict = {True: "They help.", False: "They make it worse.", None: "Neither is shown."}[self.helps]
        leaks = (
            "not tested, because a frame cannot be computed again. Pass a function or SQL over the feature rows."
            if self.leak_test is None
            else self.leak_test.text
        )
        filled = ", ".join(f"{name} {share:.1%}" for name, share in self.filled.items())
        metric = (
            f"{found.metric} {found.challenger:.4f} with, {found.other:.4f} without; difference "
            f"{difference.value:+.4f} {difference.ends('+.4f')} (above zero is better), on {found.rows:,} test rows"
        )
        lines = [
            f"{self.model} with {quoted(self.columns)}: {metric}. {verdict}",
            f"Trained with {self.parameters}. Rows with a value: {filled}.",
            f"Leak test: {leaks}",
            *(f"Suspicious: {it.sentence}" for it in self.lone),
        ]
        return "\n".join(lines)


def try_features(
    model: str,
    candidate: pl.DataFrame | pl.LazyFrame | FeatureFunction | str,
    *,
    as_of: str | date | None = None,
    samples: int = SAMPLES,
    lake: str | Lake | None = None,
) -> FeatureTrial:
    """Train a model with and without new features, on the same split with the same seed, and compare the two.

    Both are trained on the train rows with the parameters of the newest tuning, except that each tree may use all
    features, so that a column without information changes nothing. The deciding metric is compared on the
    test rows as the gate compares a challenger with a champion: the interval comes from leaving out one day, group or
    fold of rows at a time. Nothing is written, neither to the lake nor to the promotion log.

    Args:
        model: the model, which the current project declares.
        candidate: the new features: a frame with the key of the model's features; or a function that takes the feature
            rows of one period and returns their key with the new columns; or such a function as SQL over the table
            `features`, evaluated by DuckDB. Text becomes a category.
        as_of: as of which day the training set is; the newest day of the features if absent.
        samples: how many prediction times are tested for leaks: a function must give the same values if the rows of
            later prediction times are removed or replaced.
        lake: the lake or its address; by default that of `ML_ASSETS_LAKE`, else the folder `.lake` of the project.

    Raises:
        ContractError: the new features cannot be used; the message states why.
        DataError: the function fails, or the training set cannot be built.
    """
    day = None if as_of is None else date.fromisoformat(str(as_of))
    return trial_of(open_lake(lake), read_plan(model), candidate, as_of=day, samples=samples)


def trial_of(
    lake: Lake,
    plan: ModelPlan,
    candidate: pl.DataFrame | pl.LazyFrame | FeatureFunction | str,
    *,
    as_of: date | None = None,
    samples: int = SAMPLES,
) -> FeatureTrial:
    """Compare a plan's model with and without new features; see `try_features`."""
    frozen = training_set_in(lake, plan, as_of)
    if isinstance(candidate, pl.DataFrame | pl.LazyFrame):
        added, tested = candidate.lazy().collect(), None
    else:
        name = "(SQL)" if isinstance(candidate, str) else getattr(candidate, "__qualname__", repr(candidate))
        function = partial(_query, candidate) if isinstance(candidate, str) else candidate
        periods = _periods(lake, plan, frozen)
        add = partial(added_columns, function=function, key=plan.key, name=name)
        added = pl.concat([add(rows) for rows in periods.values()], how="vertical_relaxed")
        tested = leaks_from_later_rows(
            periods, add, key=plan.key, prediction_time=plan.columns.prediction_time, fixed=plan.columns.identified,
            samples=samples, seed=plan.declaration.seed, personal=plan.personal,
        )  # fmt: skip
    wider, new = _joined(plan, frozen, added)
    tuned, parameters = _tuned(lake, plan, frozen)
    names = tuple(feature.name for feature in new)
    evaluation = measure_challenger(
        plan, wider, _trained(plan, wider, tuned.model_copy(update={"features": (*tuned.features, *names)}), _WITH),
        champion=_trained(plan, frozen, tuned, _WITHOUT), anchor=None,
    )  # fmt: skip
    comparison = evaluation.summary.against_champion
    if comparison is None:
        raise DataError(f"too few test rows of '{plan.name}' are left for a comparison; use a longer test window.")
    rows = wider.part("train")
    lone = lone_predictors(
        rows, [*(it.name for it in frozen.summary.features), *names], frozen.summary.target, frozen.summary.task,
        event_time=frozen.summary.event_time,
    )  # fmt: skip
    filled = wider.rows.select(pl.col(names).is_not_null().mean()).row(0, named=True)
    return FeatureTrial(
        plan.name, names, comparison, filled, parameters, tested, tuple(it for it in lone if it.column in names)
    )


def _query(sql: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the result of SQL over the rows as the table `features`.

    Raises:
        DataError: DuckDB cannot evaluate it.
    """
    import duckdb

    from ml_assets.warehouse.duckdb_session import connect

    with connect() as engine:
        engine.execute("set enable_external_access = false")
        engine.register("features", rows.to_arrow())
        try:
            found: pl.DataFrame = engine.sql(sql).pl()
        except duckdb.Error as error:
            raise DataError(
                f"the SQL of the new features cannot be evaluated: {error}. Expected one SELECT over the table "
                f"features, with the columns {', '.join(rows.columns)}."
            ) from error
        return found


def _periods(lake: Lake, plan: ModelPlan, frozen: TrainingSet) -> dict[str, pl.DataFrame]:
    """Return the feature rows of each period of the training set."""
    wanted = plan.calendar.keys(*frozen.rows.select(first=pl.col(DAY).min(), last=pl.col(DAY).max()).row(0))
    refs = lake.newest(f"{plan.name}/features")
    inside = [key for key in wanted if key in refs]
    frames = lake.get_each([refs[key] for key in inside], pl.DataFrame)
    return dict(zip(inside, frames, strict=True))


def _joined(plan: ModelPlan, frozen: TrainingSet, added: pl.DataFrame) -> tuple[TrainingSet, tuple[Feature, ...]]:
    """Return the training set with the new columns, and these as features.

    Raises:
        ContractError: a key column is missing or repeats, there is no new column, or one has an unsuitable type.
    """
    key, there = list(plan.key), frozen.rows.columns
    names = [name for name in added.columns if name not in key]
    wrong = [
        f"the key column '{name}' is {added.schema.get(name, 'missing')}; expected {frozen.rows.schema[name]}."
        for name in key
        if added.schema.get(name) != frozen.rows.schema[name]
    ]
    wrong += [f"column '{name}' is in the training set already; rename it." for name in names if name in there]
    wrong += [] if names else ["there is no column beside the key; expected the new features."]
    new = tuple(Feature.of(Column(it, added.schema[it], is_categorical=_is_text(added.schema[it]))) for it in names)
    wrong += [it for feature in new if (it := type_problem(feature, added.schema[feature.name]))]
    wrong = wrong or repeated_keys(added, key, fix="Aggregate to one row for each key.", personal=plan.personal)
    if wrong:
        raise ContractError(
            f"the new features of '{plan.name}' cannot be used:\n" + "\n".join(f"- {it}" for it in wrong)
        )
    rows = frozen.rows.join(added, on=key, how="left", maintain_order="left")
    summary = frozen.summary.model_copy(update={"features": (*frozen.summary.features, *new)})
    return TrainingSet(rows, summary), new


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def _tuned(lake: Lake, plan: ModelPlan, frozen: TrainingSet) -> tuple[TunedParameters, str]:
    """Return the parameters and features of the newest tuning, or the declared ones, and which they are, as text.

    A tuning of another estimator than the declared one is not used.
    """
    known, declared = tuple(feature.name for feature in frozen.summary.features), plan.declaration
    estimator, fixed = declared.training.estimator, declared.tuning.fixed
    refs = lake.newest(f"{plan.name}/tuning", [""])
    best = lake.get(refs[""], Tuning).best if refs else None
    if best is None or best.estimator != estimator:
        tuned = TunedParameters(
            metric=declared.metric, value=0.0, rounds=None if estimator else ROUNDS,
            parameters=fixed if estimator else {**canonical_parameters(fixed), **ALL_FEATURES}, trials=0, pruned=0,
            features=known, estimator=estimator,
        )  # fmt: skip
        return tuned, f"the defaults of {estimator}" if estimator else f"LightGBM's defaults, {ROUNDS} rounds"
    features = tuple(name for name in best.features if name in known) or known
    parameters = {**best.parameters, **(ALL_FEATURES if best.estimator is None else {})}
    return best.model_copy(
        update={"features": features, "parameters": parameters}
    ), f"the parameters of tuning {refs[''].version[:12]}"


def _trained(plan: ModelPlan, training_set: TrainingSet, tuned: TunedParameters, name: str) -> Versioned:
    unseen = plan.declaration.training.unseen_categories
    return Versioned(name, fit(training_set, tuned, conditions_of(plan.declaration), unseen_categories=unseen))
