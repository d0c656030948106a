"""Private names of dbt-duckdb. Only processes that run dbt import them."""

from typing import Final

from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # closes the database after a run
from dbt.adapters.duckdb.credentials import DuckDBCredentials  # the type of a profile
from dbt.adapters.duckdb.plugins import BasePlugin  # extended: the plugin of the lake
from dbt.adapters.duckdb.utils import TargetConfig  # the type of a table that is written

LIBRARY: Final = "dbt-duckdb"
CHECKED: Final = "1.11.1"
MEMBERS: Final = {
    "BasePlugin.configure_connection(conn)": "overridden: binds the files that a run may read",
    "BasePlugin.initialize(plugin_config)": "overridden: reads nothing yet",
    "BasePlugin.store(target_config)": "overridden: writes one file per day",
    "BasePlugin.update_connection_config(creds, config)": "overridden: refuses settings that results depend on",
    "DuckDBConnectionManager.close_all_connections()": "closes the database after a run",
}
