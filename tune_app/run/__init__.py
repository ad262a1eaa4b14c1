"""A search from start to end; starting and resuming are one path."""
