"""The declarations of a project (its `defs.yaml` files): their types, bounds and descriptions."""
