"""What an experiment remembers on disk, and how to find it again. All that comes later is derived from it."""
