"""Comparison with the libraries and counters that others use. Skipped where they are not installed (`make peers`)."""
