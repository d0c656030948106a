"""Faults of many kinds, injected into real work; see `__main__`."""
