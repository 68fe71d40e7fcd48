"""Of boxes that overlap, the best: non-maximum suppression in numpy, as torchvision.ops.nms does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CANDIDATES = 10_000  # boxes that are compared with each other; the best are


def suppress(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], classes: NDArray[Any] | None, iou_threshold: float, most: int
) -> NDArray[np.intp]:
    """Places of the boxes that stay, best first, at most `most`.

    `boxes`: (boxes, 4) as left, top, right, bottom. A box goes where a better one that stays overlaps it by more than
    `iou_threshold` of their union, 0..1; with `classes` only one of the same class. Among equal scores the first is the better.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    left, top, right, bottom = boxes[order].T
    areas = (right - left) * (bottom - top)
    group = None if classes is None else classes[order]
    gone = np.zeros(len(order), bool)
    kept: list[int] = []
    for place in range(len(order)):
        if gone[place]:
            continue
        kept.append(place)
        if len(kept) == most:
            break
        rest = slice(place + 1, None)
        wide = np.minimum(right[place], right[rest]) - np.maximum(left[place], left[rest])
        high = np.minimum(bottom[place], bottom[rest]) - np.maximum(top[place], top[rest])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # of two boxes without an area
            covers = shared / (areas[place] + areas[rest] - shared) > iou_threshold
        gone[rest] |= covers if group is None else covers & (group[rest] == group[place])
    return order[kept]
