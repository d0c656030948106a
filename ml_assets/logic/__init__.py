"""Pure functions on frames and models; no Dagster, no storage, no clock."""
