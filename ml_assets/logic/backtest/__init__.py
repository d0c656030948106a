"""Backtests: policies over past days, injected drift, and how reliable the retraining rules are."""
