"""Sensors that ask for runs and say why."""
