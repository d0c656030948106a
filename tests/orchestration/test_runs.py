"""Runs in this process: what is said if another run materializes the same assets."""

import dagster as dg

from ml_assets.orchestration.left_runs import PROCESS, this_process
from ml_assets.orchestration.runs import InProcess


@dg.asset
def mine() -> None: ...


@dg.asset
def other() -> None: ...


DEFS = dg.Definitions(assets=[mine, other])


def test_another_run_of_the_same_assets_is_named_with_who_runs_it_and_both_go_on() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        job = DEFS.resolve_implicit_global_asset_job_def()
        begun = instance.create_run_for_job(
            job,
            asset_selection=frozenset({mine.key}),
            status=dg.DagsterRunStatus.STARTED,
            tags={PROCESS: this_process()},
        )
        said: list[str] = []
        runs = InProcess(DEFS, instance, said.append)

        assert runs.create([other.key], tags={}, run_config={})
        assert [] == said
        assert runs.create([mine.key, other.key], tags={}, run_config={})

    host, process, _ = this_process().split("/")
    who = f"run {begun.run_id[:8]} of process {process} on {host}"
    assert [f"{who} materializes 1 asset of this run too; both keep their results"] == said
