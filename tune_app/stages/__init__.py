"""Which stages an experiment needs, has, and may drop: for plans, progress and disk space."""
