"""Several processes or pods that work on one step together."""
