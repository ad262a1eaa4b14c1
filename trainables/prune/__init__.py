"""Removing channels and zeroing weights: criteria, plans, and the stages that do it."""
