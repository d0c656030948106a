"""Garbage collection: what is in the lake, what is needed by what, and removing the rest."""
