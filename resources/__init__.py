"""The lake, artifact IO, the promotion log and the warehouse."""
