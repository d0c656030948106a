"""The prediction service: champions over HTTP. It needs the lake, and neither Dagster nor dbt."""
