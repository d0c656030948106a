"""The leak test: features rebuilt from what was known at their prediction time."""
