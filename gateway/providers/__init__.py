"""One file for each vendor; see gateway/provider.py for what it offers."""
