"""Traces: finds the requested artifact, collects its lineage, and shows it as text, JSON or a page."""
