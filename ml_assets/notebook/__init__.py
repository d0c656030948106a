"""What a notebook or a service reads and tries, without Dagster: artifacts, training sets, champions, new features."""
