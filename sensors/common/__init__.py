"""What several sensors share."""
