"""The words that a contract may use for what is one of a few: how an image is fitted, what a task or a unit is called."""

from __future__ import annotations

from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Fit = Literal["stretch", "center-crop", "letterbox"]
Order = Literal["rgb", "bgr"]
Placement = Literal["center", "top-left"]
Task = Literal["classification", "multilabel", "segmentation", "detection", "embedding", "regression", "raw"]
Activation = Literal["softmax", "sigmoid", "none"]
Convention = Literal["xyxy", "xywh", "cxcywh"]
Units = Literal["pixels", "relative"]
