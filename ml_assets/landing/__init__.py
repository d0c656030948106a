"""Reading source files: which have arrived, their formats, and columns that SQL computes from their rows."""
