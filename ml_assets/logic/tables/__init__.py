"""Pure functions on the rows of raw tables, features, labels and training sets."""
