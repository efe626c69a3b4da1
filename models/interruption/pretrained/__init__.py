"""Networks of others, read out of their packages."""
