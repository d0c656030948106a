"""dbt runs over the lake's files, on DuckDB or another adapter."""
