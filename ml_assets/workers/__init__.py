"""Several processes or pods that work at one step together."""
