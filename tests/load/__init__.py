"""python -m tests.load: calls of every kind at a real server whose providers and clients fail."""
