"""Private names of dagster-graphql that only tests use; see `ml_assets.adapters`."""

from typing import Final

from dagster_graphql.client.query import (
    LAUNCH_PARTITION_BACKFILL_MUTATION,  # the request of the UI's button
    LAUNCH_PIPELINE_EXECUTION_MUTATION,  # as above
)
from dagster_graphql.test.utils import execute_dagster_graphql  # answers it without a webserver

LIBRARY: Final = "dagster-graphql"
CHECKED: Final = "1.13.27"
