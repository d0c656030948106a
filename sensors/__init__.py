"""Which sensors and schedules this deployment runs, with their settings."""
