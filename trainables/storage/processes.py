"""Processes of this machine: a number alone may name another one later (torch-free)."""

import psutil


def started_s(process: psutil.Process) -> float:
    """Seconds between boot and the start of a process: unlike its time of day, no change of the clock moves it."""
    boot = psutil.boot_time()  # first: an older psutil counts from the one that it saw last
    return round(process.create_time() - boot, 2)
