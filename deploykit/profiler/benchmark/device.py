"""Refuse a device that is not there, before the long work."""

from __future__ import annotations


def require_device(device: str, is_file: bool) -> None:
    """Raise `DeviceUnavailable` before the long work what an engine would raise after it; `InputError` for no device at all."""
    if is_file:
        from deploykit.runtime.session import working_device

        working_device(device)
    else:
        from deploykit.network.running import torch_device  # a process that runs files alone holds no PyTorch

        torch_device(device)
