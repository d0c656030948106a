"""Draw plots of a model's artifacts as SVG text. The same artifact gives the same text."""
