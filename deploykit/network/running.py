"""Where a network runs, and what is said when it cannot."""

from __future__ import annotations

import torch

from deploykit.errors import DeviceUnavailable
from deploykit.runtime.providers import parse_device


def torch_device(device: str) -> torch.device:
    """Such as "cuda:1". Raises `DeviceUnavailable`, `InputError`."""
    kind, number = parse_device(device)
    there = torch.cuda.is_available() and number < torch.cuda.device_count()
    if kind == "cpu" or (kind == "auto" and not there):
        return torch.device("cpu")
    if not there:
        raise DeviceUnavailable(device, "PyTorch has no such device")
    # The same precision as onnxruntime's session: plain float32.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", number)
