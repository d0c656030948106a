"""Point-in-time correctness: what was known at a time, and features that contain more than that."""
