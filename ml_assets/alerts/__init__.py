"""Alerts: their channels, and the record of what was sent."""
