"""Reads the monitoring state of a model from the lake: its champion and the former one, drift, performance, logs.

Not here: the rules that judge it (see `ml_assets.logic.monitoring.retraining` and `ml_assets.logic.promotion.watch`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal, TypeVar

import polars as pl

from ml_assets.contracts.artifacts.evaluation import EvaluationSummary
from ml_assets.contracts.artifacts.monitoring import (
    DriftSummaries,
    DriftSummary,
    PerformanceSummaries,
    PerformanceSummary,
)
from ml_assets.contracts.artifacts.training import Model, ModelSpec
from ml_assets.contracts.decisions import Promotion, Retraining
from ml_assets.contracts.periods import BY_HOUR, Calendar
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake
from ml_assets.logic.monitoring.retraining import DOUBLINGS, LOOKED_BACK, Rules, Serving
from ml_assets.logic.promotion.log import former_version, rejections, serving_since
from ml_assets.logic.promotion.watch import Watching
from ml_assets.logic.training.booster import predict
from ml_assets.models.champions import model_ref, why_it_cannot_serve
from ml_assets.models.plan import ModelPlan
from ml_assets.orchestration.groups import SERVED

Kind = Literal["drift", "performance"]
SMALL_DAYS: Final = 7
"""Further days of drift to read, because days with too few rows do not count."""
LABELS_AWAITED: Final = 14
"""The most periods of requests of which the newest one with labels is looked for."""
RECORDS_READ: Final = 16
"""The number of records of the retraining log that are read."""


@dataclass(frozen=True)
class SpecOfModel:
    """The part of a model that is read without its text."""

    spec: ModelSpec


@dataclass(frozen=True)
class _Drift:
    summaries: DriftSummaries


@dataclass(frozen=True)
class _Performance:
    summaries: PerformanceSummaries


@dataclass(frozen=True)
class _Evaluation:
    summary: EvaluationSummary


R = TypeVar("R", _Drift, _Performance)


@dataclass(frozen=True)
class MonitoringState:
    """What is known about one model.

    Attributes:
        former: the version that the champion is compared with; None if it is not watched.
        since: the entry of the log that made it champion.
        drift: of the newest whole days, oldest first; empty if it was not requested.
        performance: of the newest whole days since the champion's training, oldest first; empty if it was not
            requested.
        newest_day: the newest monitored day: the last one of the newest period.
    """

    champion: Serving
    former: str | None
    since: Promotion
    drift: tuple[DriftSummary, ...]
    performance: tuple[PerformanceSummary, ...]
    history: tuple[Retraining, ...]
    newest_day: date | None


def retraining_rules(declared: ModelDeclaration) -> Rules:
    """Return the declared rules for requesting a retraining."""
    return Rules(**declared.retraining.model_dump(include=set(Rules.__dataclass_fields__)))


def watching_of(declared: ModelDeclaration) -> Watching:
    """Return how a new champion is compared; of periods longer than a day, at least as many as a decision needs."""
    watch, calendar = declared.watch, declared.days.calendar.of_days
    return Watching(
        periods=max(calendar.periods_in(watch.days), watch.min_days) if watch.days else 0,
        min_periods=watch.min_days,
        margin=watch.margin,
        group=declared.split.group,
        period=calendar.grain,
    )


def read_monitoring(
    lake: Lake, declared: ModelDeclaration, kinds: Sequence[Kind] = ("drift", "performance")
) -> MonitoringState | None:
    """Return what is known about a model; None if it has no champion yet.

    Raises:
        MissingArtifactError: the champion or its evaluation is missing.
        CorruptArtifactError: one of the artifacts is damaged.
    """
    entries = PromotionLog(lake, declared.name).entries()
    since = serving_since(entries)
    if since is None or since.champion is None:
        return None
    calendar = declared.days.calendar
    every = {
        kind: sorted(calendar.current(lake.names(lake.path("artifacts", declared.name, kind))))
        for kind in ("drift", "performance")
    }
    newest = max((day for found in every.values() for day in found[-1:]), default=None)
    days = {kind: reports_of_days(found, calendar) for kind, found in every.items()}
    # Each period that counts may be as long as the number of days that are judged together.
    looked_at = declared.retraining.drift_window_days * declared.drift.pool_days + SMALL_DAYS
    drift = days["drift"][-looked_at:] if "drift" in kinds else []
    champion = _serving(lake, declared, since, entries, version=since.champion)
    if since.action == "rollback":
        champion = replace(champion, taken_back=_rolled_back_on(lake, declared, champion.version, days["drift"]))
    # Labels since the last training are summed, so the labels of a day that is not read would not count.
    later = [key for key in days["performance"] if key > calendar.last_key(champion.as_of)]
    performance = later[-LOOKED_BACK:] if "performance" in kinds else []
    return MonitoringState(
        champion=champion,
        former=former_version(entries),
        since=since,
        drift=tuple(
            summary for it in _read(lake, f"{declared.name}/drift", drift, _Drift) for summary in it.summaries.of_days
        ),
        performance=read_performance(lake, declared.name, performance),
        history=tuple(RetrainingLog(lake, declared.name).newest(RECORDS_READ)),
        newest_day=None if newest is None else calendar.newest_day(newest),
    )


def reports_of_days(keys: Sequence[str], calendar: Calendar) -> list[str]:
    """Return the periods whose reports have the figures of whole days: by the hour, the last hour of each day."""
    return [key for key in keys if calendar.grain != BY_HOUR or calendar.ends_day(key)]


def read_performance(lake: Lake, model: str, days: Sequence[str]) -> tuple[PerformanceSummary, ...]:
    """Return the performance of whole days for all versions that predicted them, oldest first.

    It is no recorded input. `days` are periods as `reports_of_days` returns them.
    """
    found = _read(lake, f"{model}/performance", days, _Performance)
    return tuple(summary for it in found for summary in it.summaries.of_days)


def newest_served(
    lake: Lake, declared: ModelDeclaration
) -> tuple[tuple[DriftSummary, ...], tuple[PerformanceSummary, ...]]:
    """Return the newest drift of a model's requests, and their newest performance with labels, for each version."""
    calendar = declared.days.calendar
    drift, performance = (
        sorted(calendar.current(lake.names(lake.path("artifacts", declared.name, stage))))[-LABELS_AWAITED:]
        for stage in SERVED[1:]
    )
    drifted = _read(lake, f"{declared.name}/{SERVED[1]}", drift[-1:], _Drift)
    measured = _read(lake, f"{declared.name}/{SERVED[2]}", performance, _Performance)
    labelled = [it for it in measured if any(summary.labelled for summary in it.summaries.versions)]
    newest = (labelled or measured)[-1:]
    return (
        tuple(summary for it in drifted for summary in it.summaries.versions),
        tuple(summary for it in newest for summary in it.summaries.versions),
    )


def _read(lake: Lake, asset: str, days: Sequence[str], kind: type[R]) -> list[R]:
    """Return the current artifact of each day that has one. They are not recorded as inputs."""
    return lake.get_each([*lake.newest(asset, days).values()], kind)


def _rolled_back_on(lake: Lake, declared: ModelDeclaration, champion: str, days: Sequence[str]) -> date | None:
    """Return the newest day predicted by another version than the champion, as far back as the longest cool-down."""
    longest = declared.retraining.cool_down_days * 2**DOUBLINGS
    for day in reversed(days[max(0, len(days) - longest) :]):
        found = _read(lake, f"{declared.name}/drift", [day], _Drift)
        if any(summary.model_version != champion for it in found for summary in it.summaries.of_days):
            return declared.days.calendar.last_day(day)
    return None


def spec_of(lake: Lake, model: str, version: str) -> ModelSpec:
    """Return the specification of a version of a model, which is no recorded input.

    Raises:
        MissingArtifactError: the version is missing.
        CorruptArtifactError: it is damaged.
    """
    found: SpecOfModel = lake.get(ArtifactRef(asset=f"{model}/model", version=version), SpecOfModel)
    return found.spec


def serving_of(lake: Lake, declared: ModelDeclaration, version: str) -> Serving:
    """Return a version as the retraining rules see a champion, by the newest entry that made it the champion.

    Raises:
        MissingArtifactError: the version or its evaluation is missing.
        CorruptArtifactError: one of them is damaged.
    """
    entries = PromotionLog(lake, declared.name).entries()
    began = [it for it in entries if it.champion == version and it.action in {"promote", "rollback"}]
    return _serving(lake, declared, began[-1] if began else None, entries, version=version)


def _serving(
    lake: Lake, declared: ModelDeclaration, since: Promotion | None, entries: Sequence[Promotion], *, version: str
) -> Serving:
    spec = spec_of(lake, declared.name, version)
    judged = None
    if since is not None and since.evaluation_version is not None:
        ref = ArtifactRef(asset=f"{declared.name}/evaluation", version=since.evaluation_version)
        judged = lake.get(ref, _Evaluation).summary
    promised = None if judged is None else judged.metrics.get(declared.metric)
    return Serving(
        version=version,
        as_of=spec.as_of,
        last_seen_day=spec.last_seen_day,
        rows=spec.training_rows,
        daily_loss=None if judged is None else judged.daily_loss,
        promised=None if promised is None else promised.value,
        rejections=rejections(entries, since),
    )


@dataclass(frozen=True)
class Former:
    """The champion before the current one.

    Attributes:
        after: the period of the current champion's as-of day, or of the last day on which the gate judged it if that is
            later. It has learned from days up to it, or was chosen by them.
        last: the last period of which the two are compared.
        compared: both models, as inputs of each period on which they are compared.
    """

    version: str
    model: Model
    champion: str
    after: str
    last: str
    compared: tuple[Input, ...]

    def scores(
        self, ledger: StepLedger, plan: ModelPlan, predictions: Mapping[str, pl.DataFrame], version: str, *, reader: str
    ) -> pl.DataFrame | None:
        """Return its scores for a version's predictions of some periods; None if the two are not compared on them.

        What it read is recorded as inputs of the period `reader`.
        """
        if version != self.champion or not all(self.after < key <= self.last for key in predictions):
            return None
        asset = plan.asset("features").to_user_string()
        refs = [
            ArtifactRef(asset=asset, partition=key, version=rows["features_version"][0])
            for key, rows in predictions.items()
        ]
        read = ledger.lake.read_each(refs, pl.DataFrame)
        ledger.use([*(Input.of(manifest) for _, manifest in read), *self.compared], partition=reader)
        rows = (
            own.select(plan.key).join(features, on=list(plan.key), how="left", maintain_order="left")
            for own, (features, _) in zip(predictions.values(), read, strict=True)
        )
        return pl.concat(predict(self.model, it, threads=plan.declaration.training.threads) for it in rows)


def former_champion(lake: Lake, plan: ModelPlan) -> Former | None:
    """Return the former champion, if the current one is compared with it and both predict the same target."""
    declared = plan.declaration
    entries = plan.promotion_log(lake).entries()
    version, since = former_version(entries), serving_since(entries)
    if version is None or since is None or since.champion is None:
        return None
    if not declared.watch.days or why_it_cannot_serve(lake, plan, version):
        return None
    serving = since.champion
    read = lake.read_each([model_ref(plan, one) for one in (version, serving)], Model)
    former, champion = (model for model, _ in read)
    if champion.spec.classes != former.spec.classes:
        return None
    # The days on which it was judged may be later than its as-of day, if it was in shadow.
    judged = max([champion.spec.as_of, *(since.test_days or ())])
    # The current champion may be promoted some days after that day, by a person or because labels were late.
    calendar = declared.days.calendar
    after = calendar.last_key(judged)
    matured = calendar.first_key(judged + timedelta(days=declared.labels.maturity_days + 1))
    watched = watching_of(declared).periods
    watched = calendar.periods_in(watched) if calendar.grain == BY_HOUR else watched
    last = calendar.moved(max(matured, calendar.moved(after, 1)), watched - 1)
    compared = tuple(Input.of(manifest) for _, manifest in read)
    return Former(version, former, serving, after, last, compared)
