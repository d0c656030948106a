"""What is stale, what to materialize next, and why."""
