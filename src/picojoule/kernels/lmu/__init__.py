"""The Legendre Memory Unit: its matrices, its step, and its fast forms."""
