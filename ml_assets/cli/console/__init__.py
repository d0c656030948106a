"""The terminal: progress, errors, interrupts and escaped output."""
