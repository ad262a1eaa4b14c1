"""Workplace: what a worker holds while it works on trials of one experiment."""

import functools
from dataclasses import dataclass

from trainables.data.data_sets import DataSet
from trainables.data.images import Images, ImageSet
from trainables.device import Device, choose_device, keep_freed_memory, use_threads
from trainables.stages.cache import StageCache
from trainables.storage import StoragePath


@dataclass(frozen=True)
class Workplace:
    """A worker's data on its device, and the stage cache that all workers share."""

    data: DataSet
    cache: StageCache
    device: Device
    first_threads: int | None = None
    """The threads of stages without a parent, which all trials share: another number gives them other last bits. None:
    those of the others."""

    @functools.cached_property
    def train(self) -> Images:
        """Training images on the device."""
        return self._on_device(self.data.train)

    @functools.cached_property
    def val(self) -> Images:
        """Validation images on the device."""
        return self._on_device(self.data.val)

    def _on_device(self, images: ImageSet) -> Images:
        data, device = self.data, self.device
        return Images(images, data.mean, data.std, device.torch, room_bytes=device.room_bytes)


def open_workplace(
    data: DataSet,
    stages: StoragePath,
    *,
    cpu: float,
    gpu: float,
    compile: bool = False,
    bf16: bool = False,
    first_threads: int | None = None,
) -> Workplace:
    """Opens a workplace with the trial's share of threads (`cpu`) and device (`gpu`), in a process that trains."""
    use_threads(cpu)
    keep_freed_memory()
    return Workplace(data, StageCache(stages), choose_device(gpu, compile=compile, bf16=bf16), first_threads)
