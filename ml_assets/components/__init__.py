"""Declarations as Dagster components, so that `dg` and a `defs/` folder of a host project load them."""
