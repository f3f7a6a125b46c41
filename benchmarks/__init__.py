"""Speed: cardgen against the bare model, and against a peer in the same run. `python -m benchmarks --help`."""
