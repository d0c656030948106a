"""Runs a model's graph from the command line: where the runs execute, and their summary."""
