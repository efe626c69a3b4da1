"""python -m tests.chaos: what the server does when what it stands on fails."""
