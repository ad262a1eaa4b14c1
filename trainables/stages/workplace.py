"""Workplace: what a worker holds while it works on trials of one experiment."""

import functools
from dataclasses import dataclass

from trainables.data.data_sets import DataSet
from trainables.data.images import Images
from trainables.device import Device, choose_device, use_threads
from trainables.stages.cache import StageCache
from trainables.storage import StoragePath


@dataclass(frozen=True)
class Workplace:
    """A worker's data on its device, and the stage cache that all workers share."""

    data: DataSet
    cache: StageCache
    device: Device

    @functools.cached_property
    def train(self) -> Images:
        """Training images on the device."""
        return Images(self.data.train, self.data.mean, self.data.std, self.device.torch)

    @functools.cached_property
    def val(self) -> Images:
        """Validation images on the device."""
        return Images(self.data.val, self.data.mean, self.data.std, self.device.torch)


def open_workplace(data: DataSet, stages: StoragePath, *, cpu: float, gpu: float, compile: bool = False) -> Workplace:
    """Opens a workplace with the trial's share of threads (`cpu`) and device (`gpu`)."""
    use_threads(cpu)
    return Workplace(data, StageCache(stages), choose_device(gpu, compile=compile))
