"""Recordings, made voices and sounds, and the scenes that are built of them."""
