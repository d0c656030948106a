"""Private names of Dagster's event log in SQL databases. They import SQLAlchemy, so they are apart."""

from typing import Final

from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,  # the table of evaluations of checks
    SqlEventLogStorageTable,  # the table of events
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage  # extended for both databases
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,  # the database of events of all runs
    SqliteEventLogStorage,  # extended: batches
)

LIBRARY: Final = "dagster"
CHECKED: Final = "1.13.27"
MEMBERS: Final = {
    "SqlEventLogStorage._event_to_row(event)": "the row of an event, inserted in a batch",
    "SqlEventLogStorage._has_asset_key_col_on_connection(conn, column_name)": "overridden: its answer is cached",
    "SqlEventLogStorage._store_asset_check_evaluation_planned(event, event_id)": "overridden: one row per check",
    "SqlEventLogStorage._store_asset_event(conn, event, event_id)": "the newest event of an asset, once per batch",
    "SqlEventLogStorage._store_asset_event_tags(conn, events, event_ids)": "the tags of all events of a batch",
    "SqlEventLogStorage._update_asset_check_evaluation(event, event_id)": "overridden: takes over the planned row",
    "SqlEventLogStorage.has_table(table_name)": "overridden: its answer is cached",
    "SqlEventLogStorage.index_connection()": "a connection to the database of all runs",
    "SqlEventLogStorage.index_transaction()": "a transaction in the database of all runs",
    "SqlEventLogStorage.run_connection(run_id)": "a connection to the database of a run",
    "SqlEventLogStorage.store_asset_check_event(event, event_id)": "called for each check of a batch",
    "SqlEventLogStorage.store_event(event)": "overridden: the version of its own partition",
    "SqlEventLogStorage.store_event_batch(events)": "overridden: batches",
    "SqliteEventLogStorage(base_dir, inst_data)": "extended",
    "SqliteEventLogStorage._connect(shard)": "overridden: one engine per database, and one connection per batch",
    "SqliteEventLogStorage._db_lock": "replaced by a reentrant lock",
    "SqliteEventLogStorage._initdb(engine)": "creates the tables",
    "SqliteEventLogStorage._initialized_dbs": "the databases that have tables",
    "SqliteEventLogStorage.conn_string_for_shard(shard_name)": "the address of a database",
}
