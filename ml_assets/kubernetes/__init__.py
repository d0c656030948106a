"""Steps in pods of their own: which steps get one, what became of it, and what is done about it."""
