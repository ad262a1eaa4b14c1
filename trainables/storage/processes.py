"""What tells a process of this machine from a later one of the same number: when it started (torch-free)."""

import os

import psutil


def started_s(process: psutil.Process) -> float:
    """Returns the seconds from boot to a process's start: unlike its time of day, no change of the clock moves them."""
    boot = psutil.boot_time()  # first: an older psutil counts from the one that it saw last
    return round(process.create_time() - boot, 2)


def is_hidden(pid: int) -> bool:
    """Whether a process of another user runs of which the system tells us no more, as on machines with hidepid."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        try:
            psutil.Process(pid).create_time()
        except psutil.Error:
            return True
    except OSError:  # there is none
        pass
    return False
