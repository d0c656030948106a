"""Trains a recorded model again in a scratch lake, and returns the verdict.

Not here: the comparison (see `ml_assets.provenance.reproduction`), and who requests it (see `ml_assets.cli.reproduce`
and `ml_assets.automation.reproduction`).
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import dagster as dg
from pydantic import JsonValue

from ml_assets.adapters.dagster import AssetNode
from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.reading import Declared
from ml_assets.lake.origin import git_state
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.scratch import ScratchLake, ScratchLakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Flow, Span
from ml_assets.orchestration.location import Overrides, load_definitions
from ml_assets.orchestration.messages import Listener, loggers_of
from ml_assets.orchestration.runs import InProcess
from ml_assets.provenance.original_code import code_differences, environment_differences, run_original_code
from ml_assets.provenance.reproduction import (
    Closeness,
    From,
    Recorded,
    ReproductionVerdict,
    outcomes,
    parameter_differences,
)


def recorded_model(source: Lake, declared: Declared, text: str, start: From) -> Recorded:
    """Return how a model, given as MODEL or MODEL@VERSION, was trained.

    Raises:
        DataError: there is neither a champion nor a given version, or its inputs are gone.
    """
    given, at, version = text.partition("@")
    name = declared.model(given).name
    if not at:
        last = PromotionLog(source, name).last()
        if last is None or last.champion is None:
            raise DataError(f"model '{name}' has no champion to reproduce; name a version: {name}@VERSION.")
        version = last.champion
    return Recorded.of(source, name, source.find(f"{name}/model", None, version), start)


GIVEN: Final = {"training_set": ("split",), "tuning": ("trials", "first_parameters")}
"""By stage, run configuration besides the day, which a requested retraining had."""


@dataclass(frozen=True)
class ModelRetraining:
    """Trains one model again.

    Attributes:
        source: the lake with the recorded model.
        declared: the current declarations.
        recorded: how the model was trained.
        start: what it is rebuilt from.
        folder: the folder of the scratch lake.
        listener: receives the messages of the runs.
    """

    source: Lake
    declared: Declared
    recorded: Recorded
    start: From
    folder: Path
    listener: Listener

    @cached_property
    def defs(self) -> dg.Definitions:
        """The code location over the scratch lake."""
        lake = ScratchLakeResource(url=str(self.folder))
        return load_definitions(Overrides(lake=lake, loggers=loggers_of(self.listener)))

    def code_changes(self) -> list[str]:
        """Return the differences in code and declared parameters, a sentence each."""
        graph = self.defs.resolve_asset_graph()
        nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
        remade = self.recorded.remade(self.start)
        then = {asset: it for asset, it in self.recorded.parameters().items() if asset in remade}
        return [
            *code_differences(
                self.recorded.code_versions(remade), {asset: node.code_version for asset, node in nodes.items()}
            ),
            *parameter_differences(then, {asset: self._declared(nodes[asset]) for asset in then if asset in nodes}),
        ]

    @cached_property
    def given(self) -> dict[str, dict[str, JsonValue]]:
        """The recorded run configuration of the stages."""
        recorded = {stage: self.recorded.stage(stage).parameters for stage in GIVEN}
        return {
            stage: {name: value for name in names if (value := recorded[stage].get(name)) is not None}
            for stage, names in GIVEN.items()
        }

    def _declared(self, node: AssetNode) -> dict[str, JsonValue]:
        """Return the declared parameters of an asset, without those that the recorded run configuration replaces."""
        declared = node.metadata.get("ml_assets/parameters")
        parameters = declared.data if isinstance(declared, dg.JsonMetadataValue) else None
        given = self.given.get(node.key.path[-1], {})
        if not isinstance(parameters, dict):
            return {}
        return {name: value for name, value in parameters.items() if name not in given}

    def run_original(self, *options: str) -> int | None:
        """Train again with the original code, in another process, if the code has changed since a recorded commit.

        Args:
            options: further options of `ml-assets reproduce`, which stores the verdict in the lake.

        Returns:
            its exit code; None if the current code is the original code as far as it is known.
        """
        manifest = self.recorded.manifest
        changes = self.code_changes() if manifest.git_commit else []
        if not changes:
            return None
        for sentence in changes:
            self.listener.log(sentence)
        model = f"{self.recorded.model}@{self.recorded.ref.version}"
        command = ["reproduce", model, "--from", self.start, "--code", "current", *options]
        return run_original_code(
            manifest.git_commit, command, lake=self.source.url, was_dirty=manifest.git_is_dirty, log=self.listener.log
        )

    def run(self) -> ReproductionVerdict | None:
        """Train again with the code and environment of this process, and return the verdict.

        Returns:
            None if a step failed, which is no verdict about the model.
        """
        began = time.perf_counter()
        changed = [*environment_differences(self.source, self.recorded.manifest.environment)]
        changed += self.code_changes()
        for sentence in changed:
            self.listener.log(sentence)
        lake = self.recorded.scratch(self.source, self.start, self.folder)
        if not self._train(lake):
            return None
        found = outcomes(self.recorded, self.source, lake)
        is_equal = any(one.asset == self.recorded.ref.asset and one.equal == one.artifacts for one in found)
        git = git_state()
        return ReproductionVerdict(
            model=self.recorded.model,
            version=self.recorded.ref.version,
            start=self.start,
            is_equal=is_equal,
            outcomes=found,
            changes=tuple(changed),
            environment=self.source.environment(),
            git_commit=git.commit,
            git_is_dirty=git.is_dirty,
            seconds=round(time.perf_counter() - began, 1),
            decided_at=datetime.now(tz=UTC),
            closeness=None if is_equal else self._closeness(lake),
        )

    def _closeness(self, lake: ScratchLake) -> Closeness | None:
        """Return how close the new model is, if it need not be identical."""
        trained_on = self.recorded.inexact(self.start)
        if trained_on is None:
            return None
        from ml_assets.logic.evaluation.closeness import metric_on_test_rows

        metric = self.declared.model(self.recorded.model).metric
        rows = self.source.get(self.recorded.stage("training_set").ref, TrainingSet)
        then = self.source.get(self.recorded.ref, Model)
        now = lake.get(lake.made[self.recorded.ref.asset, ""], Model)
        return Closeness.of(
            trained_on,
            metric,
            original=metric_on_test_rows(then, rows, metric),
            reproduced=metric_on_test_rows(now, rows, metric),
        )

    def _train(self, lake: Lake) -> bool:
        model = self.declared.model(self.recorded.model)
        as_of = self._as_of()
        with dg.DagsterInstance.ephemeral() as instance:
            flow = Flow(self.defs, self.declared, model, lake, InProcess(self.defs, instance), given=self.given)
            if self.start == "raw":
                first, _ = self.recorded.days
                return flow.rebuild(Span.of(model, as_of=as_of, first=first, last=as_of), self.listener.log)
            return flow.train_again(as_of)

    def _as_of(self) -> str:
        """Return the as-of day of the training. Without a configured day, it was the newest of the features."""
        given = self.recorded.stage("training_set").parameters.get("as_of")
        return str(given or self.source.get(self.recorded.ref, Model).spec.as_of)
