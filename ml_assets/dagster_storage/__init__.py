"""Dagster's event log with a data version for each partition, on SQLite and Postgres."""
