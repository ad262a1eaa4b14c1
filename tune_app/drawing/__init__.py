"""Axes, colors and sheets that all figures share, and the figure of a frontier."""
