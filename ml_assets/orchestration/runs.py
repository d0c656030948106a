"""Executes runs, in this process.

Not here: runs on a Dagster server (see `ml_assets.cli.flow.runs`), and what they materialize (see
`ml_assets.orchestration.flow`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import dagster as dg

from ml_assets.orchestration.left_runs import PROCESS, this_process


class Runs(Protocol):
    """Executes runs."""

    def create(self, assets: Sequence[dg.AssetKey], *, tags: Mapping[str, str], run_config: Mapping[str, Any]) -> bool:
        """Materialize assets in one run, and return whether it succeeded."""
        ...


@dataclass(frozen=True)
class InProcess:
    """Executes runs in this process.

    Attributes:
        instance: records the runs.
    """

    defs: dg.Definitions
    instance: dg.DagsterInstance

    @cached_property
    def _job(self) -> dg.JobDefinition:
        return self.defs.resolve_implicit_global_asset_job_def()

    def create(self, assets: Sequence[dg.AssetKey], *, tags: Mapping[str, str], run_config: Mapping[str, Any]) -> bool:
        """Materialize assets in one run, and return whether it succeeded."""
        return self._job.execute_in_process(
            instance=self.instance,
            asset_selection=[*assets],
            tags={**tags, PROCESS: this_process()},
            run_config=dict(run_config),
            raise_on_error=False,
        ).success
