"""Trials of held-out people, figures and tables."""
