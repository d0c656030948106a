"""Predictions, drift, performance, and when they request a retraining."""
