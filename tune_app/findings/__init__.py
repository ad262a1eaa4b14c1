"""What an experiment says: its best points, comparisons and findings in words."""
