"""The speed of picojoule beside its peers, in one interleaved run: `python -m benchmarks.speed`."""
