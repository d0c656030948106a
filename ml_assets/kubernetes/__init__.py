"""Steps in pods of their own: launching, diagnosis and retries."""
