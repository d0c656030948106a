"""Estimators that a declaration may name instead of LightGBM. They are also examples of estimators of your own."""
