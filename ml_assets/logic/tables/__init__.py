"""Rows of raw tables, features, labels and training sets."""
