"""Private names of dbt-core and dbt-common. Only processes that run dbt import them."""

from typing import Final

from dbt.artifacts.schemas.run import RunExecutionResult  # results of a run, written without dbt's manifest
from dbt.cli.exceptions import DbtUsageException  # arguments that dbt refuses
from dbt.contracts.graph.manifest import Manifest  # a parsed project, used again by the next run
from dbt_common.exceptions import DbtRuntimeError  # what dbt shows without a traceback

LIBRARY: Final = "dbt-core"
CHECKED: Final = "1.11.16"
MEMBERS: Final = {"RunExecutionResult.write(path)": "writes the results of a run"}
