"""Backtests of retraining policies over the past days of a model."""
