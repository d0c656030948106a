"""What this machine has and allows: temporary folders, limits, GPUs, memory."""
