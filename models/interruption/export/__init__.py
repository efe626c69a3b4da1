"""The graph that is served."""
