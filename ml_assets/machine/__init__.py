"""Properties and limits of this machine: temporary folders, system limits, GPUs, memory."""
