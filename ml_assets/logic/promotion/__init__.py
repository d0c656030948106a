"""Promotion: the gate, what the promotion log implies, and the watch over a new champion."""
