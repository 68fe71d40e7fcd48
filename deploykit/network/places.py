"""Where the files of a network lie unless a user says otherwise."""

from __future__ import annotations

from pathlib import Path

NAME = "model.safetensors"


def folder_of(name: str) -> Path:
    """Where the checkpoint and export of a network lie by default: `trained/resnet18` for `torchvision:resnet18`, too."""
    return Path("trained") / name.rpartition(":")[2]
