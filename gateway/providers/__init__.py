"""One file for each vendor; see gateway/upstreams/provider.py for what it offers."""
