"""Plots of a model's artifacts as small SVG text: the same artifact gives the same text."""
