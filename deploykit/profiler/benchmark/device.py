"""Is the device there? Asked before the long work."""

from __future__ import annotations

from deploykit.errors import DeviceUnavailable
from deploykit.runtime.session import cuda_obstacle, parse_device


def require_device(device: str, is_file: bool) -> None:
    """Raise `DeviceUnavailable` before the long work what an engine would raise after it; `InputError` for no device at all."""
    if not is_file:
        from deploykit.network.running import torch_device  # a process that runs files alone holds no PyTorch

        torch_device(device)
    elif parse_device(device)[0] == "cuda":
        obstacle = cuda_obstacle(thorough=True)
        if obstacle is not None:
            raise DeviceUnavailable(
                f"device {device!r} was asked for, but CUDA cannot be used: {obstacle}", "`deploykit doctor` tells what to do"
            )
