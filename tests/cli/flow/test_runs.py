"""How runs that a server launches are shown on a terminal; the server here is a test double."""

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.cli.console.progress import Progress
from ml_assets.cli.flow.dagster_server import QUEUED, DagsterServer, ServerError, ServerEvent
from ml_assets.cli.flow.runs import OnServer, open_runs
from ml_assets.lake.steps import StepRecord, store_step
from ml_assets.lake.store import Lake
from ml_assets.settings import SettingsError

MODEL, RUN = dg.AssetKey(["m", "model"]), "0123456789"


class Scripted(DagsterServer):
    """Launches anything, and yields the given events."""

    def __init__(self, events: Sequence[ServerEvent | bool | ServerError], lake: str = "") -> None:
        super().__init__("http://dagster:3000")
        self.events = events
        self.its_lake = lake
        self.requested: list[tuple[Any, ...]] = []

    def lake(self, assets: Sequence[Sequence[str]]) -> str:  # noqa: ARG002 - the server's signature
        return self.its_lake

    def launch(self, assets: Sequence[Sequence[str]], *, tags: Mapping[str, str], run_config: Mapping[str, Any]) -> str:
        self.requested.append(([*assets], tags, run_config))
        return RUN

    def follow(self, run_id: str) -> Iterator[ServerEvent | bool]:  # noqa: ARG002 - the server's signature
        for it in self.events:
            if isinstance(it, ServerError):
                raise it
            yield it


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake in which the run has stored something."""
    found = Lake(str(tmp_path))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    store_step(found, StepRecord(run_id=RUN, step="m", retry_number=0, assets=("m/model",), started_at=at))
    return found


def made(lake: Lake, *events: ServerEvent | bool | ServerError) -> tuple[bool, str, Scripted]:
    output = io.StringIO()
    server = Scripted(events)
    is_made = OnServer(server, lake, Progress(output, is_recorded=True)).create(
        [MODEL], tags={"model": "m"}, run_config={"ops": {}}
    )
    return is_made, output.getvalue(), server


def test_a_run_is_requested_as_it_would_be_executed_here_and_its_page_is_reported(lake: Lake) -> None:
    is_made, output, server = made(lake, True)

    assert is_made
    assert [([["m", "model"]], {"model": "m"}, {"ops": {}})] == server.requested
    assert "run 01234567: http://dagster:3000/runs/0123456789" in output
    assert "goes on" not in output


def test_steps_are_reported_when_they_begin_log_are_retried_and_fail(lake: Lake) -> None:
    is_made, output, _ = made(
        lake,
        ServerEvent(QUEUED, "", "INFO", "still queued"),
        ServerEvent("ExecutionStepStartEvent", "m__model", "DEBUG", "Started"),
        ServerEvent("LogMessageEvent", "m__model", "INFO", "200 rounds"),
        ServerEvent("LogMessageEvent", "m__model", "DEBUG", "not for people"),
        ServerEvent("ExecutionStepUpForRetryEvent", "m__model", "DEBUG", "", "It was killed for memory; 2Gi next."),
        ServerEvent("ExecutionStepFailureEvent", "m__model", "ERROR", "", "ValueError: no rows"),
        ServerEvent(
            "LogMessageEvent", "m__card", "ERROR", "Dependencies for step m__card failed: ['m']. Not executing."
        ),
        False,
    )

    assert not is_made
    assert [
        "still queued",
        "m/model …",
        "m/model: 200 rounds",
        "m/model is retried: It was killed for memory; 2Gi next.",
        "m/model failed: ValueError: no rows",
        "to debug it: ml-assets replay 01234567 m/model --pdb",
    ] == [line.partition(" s  ")[2] for line in output.splitlines()[1:]]


def test_a_server_with_another_lake_gets_no_run(lake: Lake) -> None:
    server = Scripted([True], lake="s3://bucket/other")

    with pytest.raises(ServerError, match="it uses s3://bucket/other"):
        OnServer(server, lake, Progress(io.StringIO())).create([MODEL], tags={}, run_config={})

    assert [] == server.requested


def test_a_run_that_stored_nothing_in_this_lake_is_not_judged_by_it(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="run 01234567 has stored its results elsewhere"):
        made(Lake(str(tmp_path)), True)


def test_when_following_stops_the_user_learns_that_the_run_continues(lake: Lake) -> None:
    output = io.StringIO()
    runs = OnServer(Scripted([ServerError("away")]), lake, Progress(output))

    with pytest.raises(ServerError, match="away"):
        runs.create([MODEL], tags={}, run_config={})

    assert "the run continues: http://dagster:3000/runs/0123456789" in output.getvalue()


def test_in_production_runs_are_launched_on_a_server_and_a_missing_one_is_reported(
    monkeypatch: pytest.MonkeyPatch, lake: Lake
) -> None:
    monkeypatch.setenv("ML_ASSETS_PROFILE", "production")

    with pytest.raises(SettingsError, match="expected --server URL or ML_ASSETS_SERVER"):
        with open_runs(None, dg.Definitions(), lake, Progress(io.StringIO())):
            pass
    monkeypatch.setenv("ML_ASSETS_SERVER", "http://dagster-webserver")
    with open_runs(None, dg.Definitions(), lake, Progress(io.StringIO())) as runs:
        assert isinstance(runs, OnServer)
        assert "http://dagster-webserver" == runs.server.url


def test_a_check_without_a_result_prints_no_line_about_its_outputs() -> None:
    @dg.asset
    def champion() -> None: ...

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec("is_reproduced", asset="champion")], can_subset=True)
    def reproduction() -> Iterator[dg.AssetCheckResult]:
        yield from ()

    printed = io.StringIO()
    whole = dg.Definitions([champion], asset_checks=[reproduction], loggers=Progress(printed).loggers())
    assert whole.resolve_implicit_global_asset_job_def().execute_in_process({"loggers": {"console": {}}}).success

    assert "reproduction …" in printed.getvalue()
    assert "did not yield" not in printed.getvalue()
