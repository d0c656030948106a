"""What this deployment runs on."""
