"""What was known at a moment, and features that hold more than that."""
