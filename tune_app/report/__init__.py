"""The report of an experiment: one HTML file that needs nothing else, or its figures as images."""
