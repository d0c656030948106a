"""Metrics of a model with their intervals, against baselines, by slice and over scores."""
