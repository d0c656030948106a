"""Factories of sensors and schedules, and of the jobs that they launch."""
