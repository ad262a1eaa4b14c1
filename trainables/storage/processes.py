"""What tells a process of this machine from a later one of the same number: when it started (torch-free)."""

import psutil


def started_s(process: psutil.Process) -> float:
    """Returns the seconds from boot to a process's start: unlike its time of day, no change of the clock moves them."""
    boot = psutil.boot_time()  # first: an older psutil counts from the one that it saw last
    return round(process.create_time() - boot, 2)
