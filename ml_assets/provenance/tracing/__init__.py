"""Traces: finds what was asked for, collects its lineage, and shows it as text, JSON or a page."""
