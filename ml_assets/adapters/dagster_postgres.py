"""Private names of dagster-postgres."""

from typing import Final

from dagster_postgres import (
    PostgresEventLogStorage,
)
from dagster_postgres.utils import (
    create_pg_engine,  # an engine whose connections are tested before use
    get_token_provider_from_config,  # login by a cloud's token, as dagster.yaml configures it
    pg_url_from_config,  # the address of the database, as dagster.yaml configures it
)

LIBRARY: Final = "dagster-postgres"
CHECKED: Final = "0.29.27"
MEMBERS: Final = {
    "create_pg_engine(postgres_url, token_provider)": "opens the event log",
    "PostgresEventLogStorage(postgres_url, should_autocreate_tables, inst_data, token_provider)": "extended",
    "PostgresEventLogStorage._connect()": "overridden: one connection per batch",
    "PostgresEventLogStorage._engine": "replaced by an engine whose idle connections are closed",
    "PostgresEventLogStorage._token_provider": "login by a cloud's token",
    "PostgresEventLogStorage.postgres_url": "the address of the database",
}
