"""Garbage collection: reads what is in the lake, decides what is needed, and removes the rest."""
