"""Traces: what was asked about, what it is told as, and where it goes: text, JSON or a page."""
