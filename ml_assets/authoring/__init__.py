"""Writes the declarations, dbt models and tests of a table of which nothing is declared yet."""
