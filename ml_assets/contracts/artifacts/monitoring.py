"""Drift and performance of a day's predictions, and the state of judged days."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal, get_args

import polars as pl
from pydantic import Field

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.json_record import Record

State = Literal["over the limits", "not judged", "within the limits"]
"""The state of a judged day."""


def state_of_all(states: Iterable[State]) -> State:
    """Return the state of several days together: over the limits if any is, within them if all are."""
    found = set(states)
    if "over the limits" in found:
        return "over the limits"
    return "within the limits" if found == {"within the limits"} else "not judged"


def describe_states(states: Iterable[State], period: str = "day") -> str:
    """Return the number of days in each state, as text; for a single day, its state. A longer period is named."""
    found = [*states]
    if not found:
        return f"no {period} was judged"
    if len(found) == 1:
        return found[0]
    counts = {state: found.count(state) for state in get_args(State)}
    return "; ".join(f"{state} on {count} of {len(found)} {period}s" for state, count in counts.items() if count)


class ExceededLimit(Record):
    """One limit that is exceeded by features or the score.

    Attributes:
        is_of_feature: whether the limit applies to a single feature, not to the sum over all features.
    """

    rule: str
    feature: str
    value: float
    limit: float
    sentence: str
    is_of_feature: bool = True


_NO_HOUR: Final = datetime(1, 1, 1)  # noqa: DTZ001 - before every hour (UTC)


class DriftSummary(Record):
    """The drift of one model version's predictions of a day, compared with the declared limits.

    Attributes:
        model_version: the version that made the predictions, to which the reference belongs.
        day: the last day of the measured rows.
        first_day: the first day, if a single day has too few rows.
        rows: rows of all these days.
        weighted_excess_psi: sum over features of excess PSI times importance; None if there are too few rows to judge.
        score_excess_psi: the score's excess PSI; see `ml_assets.logic.monitoring.drift.measure_drift`.
        hour: the begin of the last hour (UTC), by the hour.
    """

    model: str
    model_version: str
    day: date
    first_day: date
    rows: int
    weighted_excess_psi: float | None
    score_excess_psi: float | None
    is_over: bool
    drifted_features: tuple[str, ...]
    exceeded: tuple[ExceededLimit, ...] = ()
    sentence: str
    hour: datetime | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def at(self) -> tuple[date, datetime]:
        """Its place in time, for sorting."""
        return self.day, self.hour or _NO_HOUR

    @property
    def state(self) -> State:
        """The verdict on the day."""
        if self.weighted_excess_psi is None:
            return "not judged"
        return "over the limits" if self.is_over else "within the limits"


@dataclass(frozen=True)
class Drift:
    """One row per feature, and one for the score, against the reference of the version that made the predictions."""

    table: pl.DataFrame
    summary: DriftSummary


class DriftSummaries(Record):
    """The drift of a day, for each model version that made predictions; empty for a day without predictions.

    Attributes:
        whole_day: by the hour, in the report of a day's last hour: the drift of the day.
    """

    day: date
    versions: tuple[DriftSummary, ...]
    whole_day: tuple[DriftSummary, ...] = Field(default=(), exclude_if=lambda it: not it)

    @property
    def of_days(self) -> tuple[DriftSummary, ...]:
        """The drift of whole days, or of longer periods, on which retrainings are decided; empty for most hours."""
        return self.whole_day or tuple(it for it in self.versions if it.hour is None)

    def of(self, version: str) -> DriftSummary | None:
        """Return the drift of one version's predictions; None if it made none."""
        return next((it for it in self.versions if it.model_version == version), None)

    @property
    def state(self) -> State:
        """The verdict on the day: over the limits if any version is, within them if all are."""
        return state_of_all(it.state for it in self.versions)


@dataclass(frozen=True)
class DailyDrift:
    """The drift of a day: the tables and summaries of all model versions that made predictions."""

    table: pl.DataFrame
    summaries: DriftSummaries

    def of(self, version: str) -> Drift | None:
        """Return the drift of one version's predictions; None if it made none."""
        summary = self.summaries.of(version)
        own = self.table.filter(pl.col("model_version") == version).drop("model_version")
        return None if summary is None else Drift(own, summary)


class PreviousChampionPerformance(Record):
    """Metrics of the previous champion on the same labelled rows."""

    version: str
    metrics: dict[str, float]


class PerformanceSummary(Record):
    """Metrics of a day's predictions on the labels known so far, and the expected metrics.

    A metric that is not defined on these rows is not in `measured`; `unmeasured` has the reason.

    Attributes:
        expected: The metrics expected from the scores of all predictions.
        expected_labelled: The metrics expected from the scores of the labelled rows, with which `measured` is compared.
        previous_champion: the metrics of the previous champion on the same rows; stored in the first days of a new
            champion.
        seen_rows: other predictions of rows that the model was trained or tuned on, which are not measured. Only for a
            model that is not split by time.
        weightless_rows: other predictions whose label has weight 0, which are not measured. All figures of a model with
            row weights are weighted, except counts.
        hour: the begin of the hour (UTC), by the hour.
        without_key: other requests whose key is not known, or stored as a hash, which are not measured.
        repeated_keys: other requests of the same keys, which are not measured. The last one of a key is.
    """

    model: str
    model_version: str
    day: date
    predictions: int
    labelled: int
    without_label: int = 0
    measured: dict[str, Interval]
    expected: dict[str, float]
    expected_labelled: dict[str, float]
    target_mean: float | None = None
    expected_target_mean: float | None = None
    unmeasured: dict[str, str] = Field(default={})
    previous_champion: PreviousChampionPerformance | None = None
    sentence: str = ""
    seen_rows: int = Field(default=0, exclude_if=lambda it: not it)
    weightless_rows: int = Field(default=0, exclude_if=lambda it: not it)
    hour: datetime | None = Field(default=None, exclude_if=lambda it: it is None)
    without_key: int = Field(default=0, exclude_if=lambda it: not it)
    repeated_keys: int = Field(default=0, exclude_if=lambda it: not it)

    @property
    def at(self) -> tuple[date, datetime]:
        """Its place in time, for sorting."""
        return self.day, self.hour or _NO_HOUR

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric on the labelled rows, without its interval."""
        return {name: figure.value for name, figure in self.measured.items()}


@dataclass(frozen=True)
class Performance:
    """One row per metric: measured on the labels known so far, and expected from the scores alone."""

    table: pl.DataFrame
    summary: PerformanceSummary


class PerformanceSummaries(Record):
    """The performance of a day, for each model version that made predictions; empty for a day without predictions.

    Attributes:
        whole_day: by the hour, in the report of a day's last hour: the performance of the day.
    """

    day: date
    versions: tuple[PerformanceSummary, ...]
    whole_day: tuple[PerformanceSummary, ...] = Field(default=(), exclude_if=lambda it: not it)

    @property
    def of_days(self) -> tuple[PerformanceSummary, ...]:
        """The performance of whole days, or of longer periods, which the rules compare; empty for most hours."""
        return self.whole_day or tuple(it for it in self.versions if it.hour is None)

    def of(self, version: str) -> PerformanceSummary | None:
        """Return the performance of one version's predictions; None if it made none."""
        return next((it for it in self.versions if it.model_version == version), None)


@dataclass(frozen=True)
class DailyPerformance:
    """The performance of a day: the tables and summaries of all model versions that made predictions."""

    table: pl.DataFrame
    summaries: PerformanceSummaries
