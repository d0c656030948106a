"""Executes the runs of a command, in this process or on a Dagster server.

Not here: what is run (see `ml_assets.orchestration.flow`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ml_assets.adapters.dagster import compute_logs
from ml_assets.cli.console import log_watcher
from ml_assets.cli.console.progress import Progress
from ml_assets.cli.flow.dagster_server import QUEUED, DagsterServer, ServerError, ServerEvent
from ml_assets.cli.flow.project import open_instance
from ml_assets.lake.steps import steps_of
from ml_assets.lake.store import Lake
from ml_assets.orchestration.messages import asset_of_step, is_noise
from ml_assets.orchestration.runs import InProcess, Runs
from ml_assets.settings import server_url

compute_logs.watch_orphans = log_watcher  # type: ignore[attr-defined] # its path is all that Dagster takes of it


@dataclass(frozen=True)
class OnServer:
    """Executes runs on a Dagster server, which launches them like its own, for instance in pods.

    Attributes:
        lake: where this command reads what the runs have stored.
        progress: receives the events.
    """

    server: DagsterServer
    lake: Lake
    progress: Progress

    def create(self, assets: Sequence[dg.AssetKey], *, tags: Mapping[str, str], run_config: Mapping[str, Any]) -> bool:
        """Materialize assets in one run, follow it, and return whether it succeeded.

        Raises:
            ServerError: the server refuses the run, stores it in another lake, or is unavailable for too long. In the
                last case the run continues unobserved.
        """
        theirs = self.server.lake([key.path for key in assets])
        if theirs and theirs.rstrip("/") != self.lake.url:
            raise self._other_lake(f"it uses {theirs}. Nothing was run")
        run_id = self.server.launch([key.path for key in assets], tags=tags, run_config=run_config)
        self.progress.log(f"run {run_id[:8]}: {self.server.page(run_id)}")
        is_done = False
        try:
            for it in self.server.follow(run_id):
                if isinstance(it, ServerEvent):
                    self._report(it, run_id)
                else:
                    is_done = True
                    if it and next(steps_of(self.lake, run_id), None) is None:
                        raise self._other_lake(f"run {run_id[:8]} has stored its results elsewhere")
                    return it
        finally:
            if not is_done:
                self.progress.log(f"the run continues: {self.server.page(run_id)}")
        return False

    def _other_lake(self, why: str) -> ServerError:
        return ServerError(
            f"{self.server.url} does not use the lake of this command, {self.lake.url}: {why}. Set ML_ASSETS_LAKE to "
            "the server's lake, which this command must be allowed to read."
        )

    def _report(self, it: ServerEvent, run_id: str) -> None:
        step = asset_of_step(it.step)
        if it.kind == "ExecutionStepStartEvent":
            self.progress.log(f"{step} …")
        elif it.kind == "ExecutionStepFailureEvent":
            self.progress.log_failure(it.step, it.error, run_id)
        elif it.kind == "ExecutionStepUpForRetryEvent":
            self.progress.log(f"{step} is retried: {it.error}")
        elif it.kind == "RunFailureEvent" and (it.error or not it.step):
            self.progress.log(it.error or it.message)
        elif it.kind == QUEUED or _is_for_people(it):
            self.progress.log(f"{step}: {it.message}" if step else it.message)


def _is_for_people(it: ServerEvent) -> bool:
    return it.kind == "LogMessageEvent" and it.level not in {"DEBUG", ""} and not is_noise(it.message)


@contextmanager
def open_runs(url: str | None, defs: dg.Definitions, lake: Lake, progress: Progress) -> Iterator[Runs]:
    """Yield what executes a command's runs: the server that is given or set, or this process.

    Raises:
        ServerError: the server's address is not valid.
    """
    if url := server_url(url or ""):
        yield OnServer(DagsterServer(url), lake, progress)
        return
    with open_instance() as found:
        yield InProcess(defs, found, progress.log)
