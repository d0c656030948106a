"""Runs a model's graph from the command line: which runs, where they execute, and their summary."""
