"""The number type of a file's weights and arithmetic, as users name it."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "fp16"]
