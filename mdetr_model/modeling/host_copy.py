"""Copies of tensors between device and host that the host does not wait for."""

import numpy as np
import torch
from torch import Tensor


class HostCopy:
    """A copy of a tensor on the host, which a GPU makes while the host goes on.

    Args:
        tensor: on any device; it must not be changed in place before ``wait``.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event = None
        if tensor.is_cuda:
            # Into pinned memory: a copy to other memory blocks.
            self._values = tensor.to("cpu", non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._values = tensor.cpu()

    def wait(self) -> Tensor:
        """Returns the copy, as soon as it is complete."""
        if self._event is not None:
            self._event.synchronize()
        return self._values


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Returns an array as a tensor on a device, without waiting for a GPU."""
    values = torch.from_numpy(array)
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
