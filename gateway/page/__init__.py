"""The operator's page: what happens now, and a bench to try things."""
