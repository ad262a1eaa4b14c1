"""Image files as pixels: decoded once for each machine, brought to one size, and mapped into memory from shards."""
