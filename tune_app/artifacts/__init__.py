"""The networks of an experiment: exported, tested, timed, looked into, proven, and made again."""
