"""The groups of commands in `tune-app --help`."""

SEARCH = "Search"
RESULTS = "Results"
NETWORKS = "Networks"
CLUSTERS = "Clusters"
TOOLS = "Storage and other tools"
