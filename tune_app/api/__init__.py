"""An experiment for people who write Python: run, followed, read and loaded by the functions of the commands."""
