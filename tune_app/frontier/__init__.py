"""The Pareto frontier: of an array of costs, and of the points of an experiment. It reads no file."""
