"""Parley: the inference layer of voice agents, self-hosted."""

__version__ = "0.1.0"
