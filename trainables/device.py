"""Where tensors live and how the device is used: device, threads, autocast, memory format, seeding."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

IMAGES_SHARE = 0.25
"""The share of a trial's GPU memory that the images of one split may fill: the rest is for the network. More: larger
sets are on the GPU as a whole; less: larger batches of larger networks fit."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's numbers of two settings of its allocator: the free bytes at its end above which it gives them back, and the
most blocks that it takes from the system one by one."""


@dataclass(frozen=True)
class Device:
    """A torch device and what follows from it.

    With `compile`, networks that are trained are compiled, which is worth its minutes on long runs. Bit widths are
    tensors of a network, so all trials with the same channels share one compiled graph.
    """

    torch: torch.device
    compile: bool = False
    bf16: bool = False
    """Whether a CPU trains in bf16, as a GPU always does."""
    share: float = 1.0
    """The share of a GPU that is a trial's own."""

    @property
    def name(self) -> str:
        """The name of the GPU, or `cpu`."""
        return torch.cuda.get_device_name(self.torch) if self.torch.type == "cuda" else "cpu"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Returns a context in which the heavy operations are in bf16; on a CPU without `bf16` it does nothing."""
        if self.torch.type == "cuda" or self.bf16:
            return torch.autocast(self.torch.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def compiled(self, model: nn.Module) -> nn.Module:
        """Returns a network that shares the given one's weights and trains faster; with CUDA graphs on a GPU."""
        if not self.compile:
            return model
        mode = "reduce-overhead" if self.torch.type == "cuda" else "default"
        return cast(nn.Module, torch.compile(model, mode=mode, dynamic=False))

    def reset_peak(self) -> None:
        """Lets `peak_share` begin anew, and frees what torch still reserves for an earlier, larger trial."""
        if self.torch.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.torch)

    def peak_share(self) -> float | None:
        """Returns the most of the GPU's memory that was reserved since `reset_peak`, 0 to 1; None on a CPU."""
        if self.torch.type != "cuda":
            return None
        total = torch.cuda.get_device_properties(self.torch).total_memory
        return float(torch.cuda.max_memory_reserved(self.torch) / total)

    @property
    def room_bytes(self) -> int:
        """The bytes of a GPU's memory that the images of a split may fill; a CPU has none beside its own memory."""
        if self.torch.type != "cuda":
            return 0
        return int(IMAGES_SHARE * self.share * torch.cuda.get_device_properties(self.torch).total_memory)

    def place(self, model: Network) -> Network:
        """Moves a network here, channels last, and returns it.

        Channels last is also the faster layout on CPU: 2,157 against 1,132 images/s in training of a
        MobileNetV2 (width 0.25, 8x8 input, batch 128, one thread).
        """
        return model.to(self.torch).to(memory_format=torch.channels_last)


def choose_device(gpu_share: float, *, compile: bool = False, bf16: bool = False) -> Device:
    """Returns CUDA if the trial holds a share of a GPU and there is one, else the CPU.

    On a GPU this process then computes float32 convolutions in float32: with TF32, torch's default, a decoded file and
    the network it was made from would differ by more than rounding. Training is in bf16 and loses nothing.
    """
    use_cuda = gpu_share > 0 and torch.cuda.is_available()
    if use_cuda:
        torch.backends.cudnn.allow_tf32 = False
    share = min(1.0, gpu_share) if use_cuda else 1.0
    return Device(torch.device("cuda" if use_cuda else "cpu"), compile, bf16, share)


def resources_here() -> dict[str, float]:
    """Counts the CPUs and GPUs of this machine, under Ray's names."""
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an error says that the GPU's memory was not enough."""
    return isinstance(err, torch.OutOfMemoryError)


def use_threads(cpu_share: float) -> None:
    """Uses as many threads as the trial's CPU share; more of them under load made a training step six times slower."""
    torch.set_num_threads(max(1, int(cpu_share)))


def keep_freed_memory() -> None:
    """Lets this process use freed memory again instead of giving it back to the system, where the C library is glibc.

    Otherwise each tensor above 32 MiB comes from the system anew, which writes zeros to all of its pages first: a
    training step of a MobileNetV2 (width 0.5, 32x32 input, batch 128, one thread) took 1.2 to 1.6 times as long.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other libraries have no such function
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Returns a context that computes with so many threads; with None it changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_for(seed: int, *path: int) -> int:
    """Returns an independent seed for a place in a run (such as stage and epoch), below 2**63."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1)


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """Returns a context after which torch's threads, its random numbers and TF32 are what they were before."""
    tf32, cuda = torch.backends.cudnn.allow_tf32, torch.cuda.is_initialized()
    try:
        with threads(None), torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
