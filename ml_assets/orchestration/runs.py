"""Executes runs, in this process.

Not here: runs on a Dagster server (see `ml_assets.cli.flow.runs`), and what they materialize (see
`ml_assets.orchestration.flow`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import dagster as dg

from ml_assets.contracts.words import counted
from ml_assets.orchestration.left_runs import PROCESS, this_process

_UNDER_WAY: Final = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


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
        say: is called with a sentence if another run materializes the same assets at the same time.
    """

    defs: dg.Definitions
    instance: dg.DagsterInstance
    say: Callable[[str], None] = lambda _: None

    @cached_property
    def _job(self) -> dg.JobDefinition:
        return self.defs.resolve_implicit_global_asset_job_def()

    def create(self, assets: Sequence[dg.AssetKey], *, tags: Mapping[str, str], run_config: Mapping[str, Any]) -> bool:
        """Materialize assets in one run, and return whether it succeeded.

        Another run of the same assets is no error: what a run stores does not depend on others, and nothing is lost.
        """
        for run in self.instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
            if shared := {*(run.asset_selection or ())}.intersection(assets):
                host, _, rest = run.tags.get(PROCESS, "").partition("/")
                who = f"process {rest.partition('/')[0]} on {host}" if host else "Dagster"
                what = counted(len(shared), "asset")
                self.say(f"run {run.run_id[:8]} of {who} materializes {what} of this run too; both keep their results")
        return self._job.execute_in_process(
            instance=self.instance,
            asset_selection=[*assets],
            tags={**tags, PROCESS: this_process()},
            run_config=dict(run_config),
            raise_on_error=False,
        ).success
