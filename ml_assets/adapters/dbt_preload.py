"""Private names of dbt-core for a process that imports dbt once and forks a child for each run."""

import multiprocessing
from typing import Final

import dbt.mp_context  # creates dbt's semaphores

LIBRARY: Final = "dbt-core"
CHECKED: Final = "1.11.16"
MEMBERS: Final = {"mp_context._MP_CONTEXT": "replaced, so that a killed child leaves no named semaphore behind"}


def import_dbt() -> None:
    """Import all that a run needs. Nothing else of dbt may be imported before.

    Semaphores of the context are unnamed, so a killed child leaves none behind, and they need no tracker process.
    """
    dbt.mp_context._MP_CONTEXT = multiprocessing.get_context("fork")  # type: ignore[assignment]
    from dbt.adapters.duckdb.environments import local  # where DuckDB runs; dbt-duckdb imports it on first use
    from dbt.task import build  # the command that runs models and tests
