"""Runs the flow of one model as a few Dagster runs, each over what is out of date."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import JsonValue

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.run_tags import range_tags
from ml_assets.lake.store import Lake
from ml_assets.landing.folders import source_digest
from ml_assets.logic.promotion.log import anchor, serving_since
from ml_assets.models.leaks import newest_record
from ml_assets.models.training import first_training_day
from ml_assets.names import CAUSE, MODEL
from ml_assets.orchestration.groups import (
    CARD,
    COMBINED,
    INPUTS,
    MONITORING,
    SERVED,
    SHADOW,
    TRAINING,
    files_of_requests,
    newest_entry,
    serving,
    serving_each,
    stage_of,
    wanted_of,
    with_quarantines,
)
from ml_assets.orchestration.missing import landable, without_missing
from ml_assets.orchestration.planner import Fits, runs_of
from ml_assets.orchestration.runs import Runs
from ml_assets.orchestration.staleness import Reason, Reasons, Wanted, first_to_make, out_of_date, upstream_of

_Wanted = Mapping[dg.AssetKey, Sequence[str]]
"""Partitions of assets; '' for an asset without partitions."""


@dataclass(frozen=True)
class Span:
    """The days of a run: training as of a day, and a range of days to predict."""

    as_of: date
    first: date
    last: date

    @classmethod
    def of(
        cls,
        model: ModelDeclaration,
        *,
        as_of: str | None,
        first: str | None,
        last: str | None,
        newest_data: date | None = None,
    ) -> "Span":
        """Return the days of a run. Defaults are the newest day with data and its test window, if it has one.

        Raises:
            DataError: a day is not valid or not declared, or leaves nothing to train on.
        """
        newest = model.days.newest(datetime.now(tz=UTC))
        until = day_given(as_of, "--as-of") if as_of else min(newest, newest_data or newest)
        start = day_given(first, "--from") if first else until - timedelta(days=model.split.predicted_days - 1)
        end = day_given(last, "--to") if last else until
        start = max(start, model.days.first) if first is None else start
        for name, day in (("--as-of", until), ("--from", start), ("--to", end)):
            if not model.days.first <= day <= newest:
                raise DataError(f"{name} {day} is outside the days of {model.name}: {model.days.first} to {newest}.")
        if end < start:
            raise DataError(
                f"--to {end} is before --from {start}; swap them."
                if last
                else f"--from {start} is after the last day to predict, {end}; give a later --to."
            )
        earliest = model.days.first + timedelta(days=model.split.held_back)
        if until < earliest:
            raise DataError(
                f"--as-of {until} leaves {model.name} no day to train on: {model.split.validation_days} days of "
                f"validation and {model.split.test_days} of test come after the first one, {model.days.first}. The "
                f"earliest is {earliest}; or shorten the windows ({model.place('split')})."
            )
        return cls(until, start, end)


def day_given(text: str, what: str) -> date:
    """Return a day from the command line.

    Raises:
        DataError: it is not a valid day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"{what} is '{text}'; expected a day such as 2013-12-31.") from error


class Flow:
    """Runs one model's graph, group by group, and skips what is up to date.

    Args:
        defs: the code location.
        declared: its declarations.
        model: the model.
        lake: the lake.
        runs: executes the runs.
        given: by stage, run configuration besides the as-of day.
    """

    def __init__(
        self,
        defs: dg.Definitions,
        declared: Declared,
        model: ModelDeclaration,
        lake: Lake,
        runs: Runs,
        *,
        given: Mapping[str, Mapping[str, JsonValue]] | None = None,
    ) -> None:
        self.graph = defs.resolve_asset_graph()
        self.declared = declared
        self.model = model
        self.lake = lake
        self.runs = runs
        self.given = given or {}
        self.landable: Mapping[dg.AssetKey, set[str]] = {}
        self.too_few = ""
        """Why the last run trained no model of a single value; '' if it did."""

    def run(self, span: Span, log: Callable[[str], None]) -> bool:
        """Materialize what is out of date; return False as soon as a run fails.

        If the gate rejected the first challenger, there are no predictions, but a card. A model of a single value is
        not trained on so few rows that the gate could not promote it.
        """
        training = {self._asset(stage): [""] for stage in TRAINING}
        inputs = self._required_inputs(span)
        predicted = self._predicted(span, inputs)
        if self.model.segment is not None:
            if not self._groups(inputs, span, log):
                return False
            inputs, self.too_few = {}, self._why_too_few(span)
        if self.too_few:
            log(self.too_few)
            if PromotionLog(self.lake, self.model.name).last() is None:
                return True
        elif not self._groups({**inputs, "training": training}, span, log):
            return False
        return self._score(predicted, span, log, is_promoting=True)

    def update(self, span: Span, log: Callable[[str], None]) -> bool:
        """Bring the days of a span up to date without training or promoting; return False as soon as a run fails."""
        inputs = self._required_inputs(span, since=span.first)
        if not self._groups(inputs, span, log):
            return False
        if PromotionLog(self.lake, self.model.name).last() is None:
            log("there is no model yet, so there are no predictions")
            return True
        return self._score(self._predicted(span, inputs), span, log, is_promoting=False)

    def _score(self, predicted: Sequence[str], span: Span, log: Callable[[str], None], *, is_promoting: bool) -> bool:
        """Materialize predictions, what monitors them, and the card; only the card if there is no champion.

        Challengers in shadow, which may be promoted, are left out unless `is_promoting`.
        """
        card = {self._asset(stage): [""] for stage in CARD}
        last = PromotionLog(self.lake, self.model.name).last()
        if last is None or last.champion is None:
            log("there is no champion yet, so there are no predictions")
            return self._groups({"card": card}, span, log)
        shadow = {
            key: predicted if self.graph.get(key).is_partitioned else [""]
            for stage in SHADOW
            if is_promoting and self.graph.has(key := self._asset(stage))
        }
        monitored = {self._asset(stage): predicted for stage in MONITORING}
        groups: dict[str, _Wanted] = {"monitoring": monitored, "served": self._served(), "shadow": shadow, "card": card}
        return self._groups({name: group for name, group in groups.items() if group}, span, log)

    def _served(self) -> _Wanted:
        """Return the newest requests that the service has logged, with their drift and performance."""
        requests = self._asset(SERVED[0])
        if not self.graph.has(requests):
            return {}
        calendar, count = self.model.days.calendar, self.declared.automation.updates.days
        newest = calendar.last_key(self.model.days.newest(datetime.now(tz=UTC)))
        keys = calendar.between(calendar.moved(newest, 1 - calendar.periods_in(count)), newest)
        logged = [*files_of_requests(self.graph, self.lake, {requests: keys})[requests]]
        return {self._asset(stage): logged for stage in SERVED} if logged else {}

    def combine(self, span: Span, log: Callable[[str], None]) -> bool:
        """Materialize the combined predictions of a model of all rows and its segments; return False if a run fails."""
        if serving(self.lake, self.model.name)["champion"] is None:
            log(f"{self.model.name} has no champion yet, so there are no combined predictions")
            return True
        days = self._predicted(span, self._required_inputs(span))
        return self._groups({"combined predictions": {self._asset(COMBINED): days}}, span, log)

    def _predicted(self, span: Span, inputs: Mapping[str, _Wanted]) -> list[str]:
        """Return the days of a run that have all features and labels."""
        complete = [{*keys} for keys in inputs["features and labels"].values()]
        return [day for day in self._keys(span.first, span.last) if all(day in keys for keys in complete)]

    def _why_too_few(self, span: Span) -> str:
        """Return why the rows of a single value cannot lead to a promotion, as a sentence; '' if they may."""
        segment, split, least = self.model.segment, self.model.split, self.model.gate.min_rows
        if segment is None:
            return ""
        opens = span.as_of - timedelta(days=split.test_days - 1) if split.is_by_time else self.model.days.first
        before = first_training_day(self.model, span.as_of, split), opens - timedelta(days=1)
        rows = self._feature_rows(opens, span.as_of)
        found = f"{counted(rows, 'row')} with {segment.words} in the features of {opens} to {span.as_of}"
        if rows >= least:
            if not split.is_by_time or self._feature_rows(*before):
                return ""
            found = f"no row with {segment.words} in the features of {before[0]} to {before[1]}"
        rest = "" if segment.pooled is None else f"; {segment.pooled.name} scores them"
        needs = f"the gate needs {least:,} test rows" if rows < least else "so there is nothing to train on"
        return f"{self.model.name}: too few rows: {found}, and {needs}. No model is trained{rest}."

    def _feature_rows(self, first: date, last: date) -> int:
        """Return the number of rows in the features of some days, rounded outward to whole periods."""
        refs = self.lake.newest(self._asset("features").to_user_string(), self._keys(first, last)).values()
        return sum(it.rows or 0 for it in self.lake.manifest_of_each([*refs]).values())

    def materialize_inputs(self, span: Span, log: Callable[[str], None]) -> bool:
        """Materialize features and labels that are out of date; return False as soon as a run fails."""
        return self._groups(self._required_inputs(span), span, log)

    def rebuild(self, span: Span, log: Callable[[str], None]) -> bool:
        """Rebuild a model and its inputs from the current raw tables; return False as soon as a run fails."""
        inputs = self._inputs(span)
        upstream = upstream_of(self.graph, inputs)
        tables = {key: keys for key, keys in upstream.items() if self.graph.get(key).parent_keys}
        training = {self._asset(stage): [""] for stage in TRAINING[: TRAINING.index("model") + 1]}
        return self._groups({"tables": tables, "features and labels": inputs, "training": training}, span, log)

    def train_again(self, as_of: str) -> bool:
        """Build the training set and the model with the current importances and parameters; return False on failure."""
        training_set, trained = self._asset("training_set"), self._asset("model")
        assets = [training_set, trained]
        return self.runs.create(assets, tags={}, run_config=self._config(assets, as_of))

    def _asset(self, stage: str) -> dg.AssetKey:
        return dg.AssetKey([self.model.name, stage])

    def _keys(self, first: date, last: date) -> list[str]:
        """Return the partitions that contain something of a range of days; none if the last is earlier."""
        return self.model.days.calendar.keys(first, last)

    def _required_inputs(self, span: Span, *, since: date | None = None) -> dict[str, _Wanted]:
        """Return features and labels with everything upstream, by group; those of the training too, without `since`.

        Raises:
            DataError: raw days are missing, and their readers do not allow gaps.
        """
        inputs = self._inputs(span, since=since)
        upstream = upstream_of(self.graph, inputs)
        self.landable = landable(self.lake, self.declared, upstream)
        found = without_missing(self.graph, self.lake, self.model, {**upstream, **inputs}, self.landable)
        raw = {key: found[key] for key in upstream if not self.graph.get(key).parent_keys}
        tables = {key: found[key] for key in upstream if key not in raw}
        return {"raw": raw, "tables": tables, "features and labels": {key: found[key] for key in inputs}}

    def _inputs(self, span: Span, *, since: date | None = None) -> dict[dg.AssetKey, list[str]]:
        first = since or first_training_day(self.model, span.as_of, self.model.split)
        newest = max(span.as_of, span.last)
        days = self._keys(min(first, span.first), newest)
        # Performance reads the existing labels of later days, which must be up to date too.
        calendar = self.model.days.calendar
        last = calendar.last_day(calendar.last_key(span.last)) + timedelta(days=self.model.labels.maturity_days)
        later = self._keys(calendar.last_day(calendar.last_key(newest)) + timedelta(days=1), last)
        labels = self._asset("labels")
        there = self.lake.newest(labels.to_user_string(), later) if later else {}
        return {self._asset(stage): days for stage in INPUTS} | {labels: [*days, *sorted(there)]}

    def _groups(self, groups: Mapping[str, _Wanted], span: Span, log: Callable[[str], None]) -> bool:
        """Materialize groups in order; return False as soon as a run fails."""
        waiting = dict(groups)
        while waiting:
            together = {name: waiting.pop(name) for name in self._together(waiting)}
            if not self._update(together, span, log):
                return False
        return True

    def _together(self, waiting: Mapping[str, _Wanted]) -> list[str]:
        """Return the first group, with the following groups of the same run, if none of them was ever materialized.

        A run costs a pod on a cluster. Existing artifacts wait for their inputs, because they may be up to date then. A
        run has one range of days, so groups by day share a run only for the same days.
        """
        found: list[str] = []
        days: set[tuple[str, str]] = set()
        for name, wanted in waiting.items():
            days |= {(keys[0], keys[-1]) for keys in wanted.values() if [*keys] != [""]}
            if len(days) > 1 or any(self.lake.newest(key.to_user_string(), keys) for key, keys in wanted.items()):
                break
            found.append(name)
        return found or [next(iter(waiting))]

    def _update(self, groups: Mapping[str, _Wanted], span: Span, log: Callable[[str], None]) -> bool:
        """Materialize what is out of date of some groups, if necessary in two passes; see `first_to_make`."""
        wanted = {key: keys for group in groups.values() for key, keys in group.items()}
        stale = self._out_of_date(wanted, span)
        for name in (name for name, group in groups.items() if not group.keys() & stale.keys()):
            log(f"{name}: up to date")
        first = first_to_make(stale)
        if not self._materialize(groups, first, span, log):
            return False
        if first == {key: [*found] for key, found in stale.items()}:
            return True
        rest = {key: [*found] for key, found in self._out_of_date(wanted, span).items()}
        return self._materialize(groups, rest, span, log)

    def _out_of_date(self, wanted: _Wanted, span: Span) -> Reasons:
        """Return what is out of date.

        An evaluation against another champion or anchor than the current one is out of date. So are days of features in
        which the newest leak test proved a leak, so that they are tested again.
        """
        stale = out_of_date(self.graph, self.lake, self._wanted(wanted, span))
        if leaky := self._leaky_days(wanted):
            features = self._asset("features")
            stale = {**stale, features: leaky | stale.get(features, {})}
        evaluation = self._asset("evaluation")
        if self._asset("champion") not in stale or evaluation in stale or self._is_against_current_champion():
            return stale
        return {evaluation: {"": "parameters"}, **stale}

    def _is_against_current_champion(self) -> bool:
        """Return whether the newest evaluation compared with the current champion and anchor, or led to them."""
        compared = self.lake.manifest(self.lake.find(self._asset("evaluation").to_user_string()))
        entries = PromotionLog(self.lake, self.model.name).entries()
        since = serving_since(entries)
        now = {"champion": since.champion if since else None, "anchor": anchor(entries)}
        is_current = all(compared.parameters.get(role) == version for role, version in now.items())
        return is_current or (since is not None and since.evaluation_version == compared.version)

    def _leaky_days(self, wanted: _Wanted) -> dict[str, Reason]:
        days = wanted.get(self._asset("features"))
        record = newest_record(self.lake, self.model.name) if days and self.model.leak_test.samples else None
        leaky = {leak.day for leak in record.leaks}.intersection(days or ()) if record else ()
        return dict.fromkeys(sorted(leaky), "parameters")

    def _materialize(self, groups: Mapping[str, _Wanted], due: _Wanted, span: Span, log: Callable[[str], None]) -> bool:
        """Materialize partitions, each run after the other; return False as soon as one fails."""
        for name, group in groups.items():
            if mine := {key: keys for key, keys in due.items() if key in group}:
                log(f"{name}: {', '.join(key.path[-1] for key in mine)}{_over(_days_of(mine))}")
        return all(
            self.runs.create(
                with_quarantines(self.graph, assets),
                tags={CAUSE: "ml-assets run", MODEL: self.model.name, **range_tags(days)},
                run_config=self._config(assets, str(span.as_of)),
            )
            for assets, days in runs_of(due, self._fits(), is_bridging=True, calendar=self.model.days.calendar)
        )

    def _fits(self) -> Fits:
        """Return which days a run may include for assets that are up to date: existing ones, or all that can land."""
        there = functools.cache(lambda key: frozenset(self.lake.partitions(key.to_user_string())))

        def fits(key: dg.AssetKey, day: str) -> bool:
            if self.graph.get(key).parent_keys:
                return day in there(key)
            if stage_of(key) in SERVED:
                return False
            return key not in self.landable or day in self.landable[key]

        return fits

    def _config(self, assets: Collection[dg.AssetKey], as_of: str) -> dict[str, Any]:
        ops = {
            self._asset(stage).to_python_identifier(): {"config": config}
            for stage, config in self._given(as_of).items()
            if self._asset(stage) in assets
        }
        return {"loggers": {"console": {}}, "ops": ops}

    def _given(self, as_of: str) -> dict[str, dict[str, JsonValue]]:
        """Return the run configuration of each stage that has one."""
        given = {stage: dict(config) for stage, config in self.given.items()}
        return given | {"training_set": {**given.get("training_set", {}), "as_of": as_of}}

    def _wanted(self, partitions: Mapping[dg.AssetKey, Sequence[str]], span: Span) -> Wanted:
        parameters: dict[dg.AssetKey, dict[str, JsonValue]] = {
            dg.AssetKey(["raw", name]): {"source": source_digest(table.file, self.lake.access)}
            for raw in self.declared.raw
            for name, table in raw.tables.items()
            if table.file and dg.AssetKey(["raw", name]) in partitions
        }
        as_of = str(span.as_of)
        parameters |= {self._asset(stage): config for stage, config in self._given(as_of).items()}
        if self._asset("predictions") in partitions:
            parameters[self._asset("predictions")] = serving(self.lake, self.model.name)
        for key in {self._asset(stage) for stage in SHADOW}.intersection(partitions):
            parameters[key] = newest_entry(self.lake, self.model.name)
        if self._asset(COMBINED) in partitions:
            models = [it.name for it in self.declared.families[self.model.name]]
            parameters[self._asset(COMBINED)] = serving_each(self.lake, models)
        last = self.model.days.calendar.last_key(span.as_of)
        return wanted_of(self.graph, self.lake, partitions, parameters, up_to={self._asset("training_set"): last})


def _days_of(stale: _Wanted) -> list[str]:
    return sorted({partition for keys in stale.values() for partition in keys if partition})


def _over(days: Sequence[str]) -> str:
    return f" over {days[0]} to {days[-1]}" if len(days) > 1 else f" for {days[0]}" if days else ""
