"""Source files: which have arrived, how they are read, and columns that SQL computes from their rows."""
