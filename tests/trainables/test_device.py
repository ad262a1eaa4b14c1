"""What a trial takes of a GPU, on an allocator that counts as torch's does."""

import platform
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from trainables.device import Device


class Cuda:
    """Memory that was used stays reserved until the cache is emptied; the peak begins at what is reserved."""

    total, used, reserved, peak = 1000, 0, 0, 0

    def use(self, size: int) -> None:
        self.used = size
        self.reserved = max(self.reserved, size)
        self.peak = max(self.peak, self.reserved)

    def empty_cache(self) -> None:
        self.reserved = self.used

    def reset_peak_memory_stats(self, _: torch.device) -> None:
        self.peak = self.reserved

    def max_memory_reserved(self, _: torch.device) -> int:
        return self.peak

    def get_device_properties(self, _: torch.device) -> SimpleNamespace:
        return SimpleNamespace(total_memory=self.total)


def test_a_small_trial_is_not_charged_with_what_a_larger_one_before_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, device, shares = Cuda(), Device(torch.device("cuda")), []
    for name in ("empty_cache", "reset_peak_memory_stats", "max_memory_reserved", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    for size in (200, 600, 300):
        device.reset_peak()
        cuda.use(size)
        cuda.use(100)  # the data stay on the device
        shares.append(device.peak_share())
    assert shares == [0.2, 0.6, 0.3]


def test_a_trial_on_a_cpu_takes_nothing_of_a_gpu() -> None:
    device = Device(torch.device("cpu"))
    device.reset_peak()
    assert device.peak_share() is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_tensors_are_made_of_memory_that_was_freed_before() -> None:
    code = (
        "import pathlib, resource, torch; from trainables.stages.workplace import open_workplace\n"
        "open_workplace(None, pathlib.Path('stages'), cpu=1, gpu=0)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(5):  # until the process has the memory that it needs, wherever that lies\n"
        "    torch.ones(2**24)\n"
        "before = faults()\n"
        "for _ in range(100):  # small objects between two tensors may take a place from one of them, once or twice\n"
        "    torch.ones(2**24)\n"
        "print(faults() - before)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    pages = 100 * 2**26 / resource.getpagesize()
    assert int(found.stdout) < 0.1 * pages
