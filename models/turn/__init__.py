"""End-of-turn models: thresholds, figures and the graph that is run."""
