"""What a stage is, and the cache in which its result is stored once for all trials."""
