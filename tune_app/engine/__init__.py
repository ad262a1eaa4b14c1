"""Runs trials: what every engine shares, and the engine that needs no Ray."""
