"""`python -m tests.fuzz`: input without end for every protocol of clients and every adapter."""
