"""Garbage collection: marks what is needed, checks the mark again, and sweeps the rest by age."""
