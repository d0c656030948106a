"""Alerts: what is sent, through which channels, and what was sent before."""
