"""Evaluation: metrics with intervals, comparisons with baselines and other models, slices, curves."""
