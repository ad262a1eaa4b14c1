"""Pixels on a device: all of them, or batch by batch from mapped files where there are too many."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from trainables.data.decoding.mapped import MappedPixels

AHEAD = 2
"""Batches that are read before they are asked for. More: memory; fewer: a slow read is waited for."""


class StreamedPixels:
    """Images of mapped files, which go to a device as they are asked for; through pinned memory to a GPU."""

    def __init__(self, images: MappedPixels, device: torch.device) -> None:
        self._images, self._device = images, device

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        """Reads images at these places to the device, (B, C, H, W) uint8."""
        wanted = self._images.take(places if isinstance(places, slice) else places.cpu().numpy())
        found = torch.empty(wanted.shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        wanted.read_into(found.numpy())
        return found.to(self._device, non_blocking=True)


Pixels = Tensor | StreamedPixels
"""Images (N, C, H, W) uint8 that a slice or a tensor of places takes to the device."""


def on_device(images: np.ndarray | MappedPixels, device: torch.device, room_bytes: int) -> Pixels:
    """Returns images on a device; those of mapped files if they take at most `room_bytes`, and else as they are used.

    A CPU has no room for them: the files are mapped into its memory already.
    """
    if not isinstance(images, MappedPixels):
        # A copy: arrays shared between processes are read-only, which torch tensors cannot express.
        return torch.from_numpy(images.copy()).to(device)
    if device.type == "cpu" or images.nbytes > room_bytes:
        return StreamedPixels(images, device)
    found, done = torch.empty(images.shape, dtype=torch.uint8, device=device), 0
    for part in images.parts():
        found[done : done + len(part)] = torch.from_numpy(part)
        done += len(part)
    return found


def batches_of(pixels: Pixels, places: Sequence[slice] | Sequence[Tensor]) -> Iterator[Tensor]:
    """Yields the images at each of these places; from files, a thread reads some batches ahead."""
    if isinstance(pixels, Tensor):
        yield from (pixels[place] for place in places)
        return
    ready: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for place in places:
            ready.append(thread.submit(pixels.__getitem__, place))
            if len(ready) > AHEAD:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()
