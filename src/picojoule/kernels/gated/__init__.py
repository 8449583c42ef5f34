"""Gated recurrent cells."""
