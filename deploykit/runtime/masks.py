"""Scores of pixels as a network gives them -> the label of every pixel of the image that it was asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import ModelFileError
from deploykit.runtime.geometry import Placed

if TYPE_CHECKING:
    from numpy.typing import NDArray


MAX_SCORES = 1 << 35  # labels x pixels of the image: 300 labels of a hundred megapixels


def label_of_scores(scores: NDArray[Any], place: Placed | None, threshold: float | None = None) -> NDArray[Any]:
    """(labels, height, width) -> the index of the best label, (height, width) of the image.

    Scores between two pixels of the output are interpolated linearly in both directions, without looking at more than four.
    `threshold`: of a single score per pixel, which is label 1 where it is at least that, else 0. `place`: where the image lies in
    the input; without it the result has the size of the output. Pixels that were cut off have the largest number of the dtype.
    Raises `ModelFileError` for more than `MAX_SCORES` labels x pixels.
    """
    count, height, width = scores.shape
    labels = 2 if threshold is not None else count
    rows, columns = (_between(place, axis, size) for axis, size in ((1, height), (0, width)))
    if count * len(rows[0]) * len(columns[0]) > MAX_SCORES:
        problem = f"a mask of {count:,} labels for {len(columns[0])}x{len(rows[0])} pixels is too much work"
        raise ModelFileError(problem, "make the image smaller, or let the network give indices of labels")
    best: NDArray[Any] | None = None
    mask = np.zeros((len(rows[0]), len(columns[0])), dtype_of(labels))
    for label in range(count):
        plane = _interpolated(scores[label].astype(np.float32, copy=False), rows, columns)
        if threshold is not None:
            mask[plane >= threshold] = 1
        elif best is None:
            best = plane
        else:
            better = plane > best
            mask[better] = label
            np.copyto(best, plane, where=better)
    return _without_unseen(mask, place)


def label_of_indices(indices: NDArray[Any], place: Placed | None, labels: int | None) -> NDArray[Any]:
    """(height, width) of indices of labels -> those of the nearest pixels, (height, width) of the image.

    An index that is none of the `labels` counts as not seen; see `label_of_scores`.
    """
    whole = indices.astype(np.int64, copy=False)
    most = labels if labels is not None else int(whole.max(initial=0)) + 1
    kind = dtype_of(max(most, 1))
    small = np.where((whole >= 0) & (whole < most), whole, np.iinfo(kind).max).astype(kind)
    rows, columns = (_nearest(place, axis, size) for axis, size in ((1, whole.shape[0]), (0, whole.shape[1])))
    return _without_unseen(small[rows][:, columns], place)


def dtype_of(labels: int) -> np.dtype[Any]:
    """The smallest type with a number for each label and one, its largest, for pixels without a label."""
    return np.dtype(np.uint8 if labels <= 255 else np.uint16 if labels <= 65_535 else np.int32)


def _centres(place: Placed, axis: int) -> NDArray[np.float64]:
    """Where the centres of the image's pixels lie in the input, along `axis` (0 for x, 1 for y)."""
    at = np.arange(place.image[axis], dtype=np.float64) + 0.5
    return at * (place.resized[axis] / place.image[axis]) - place.first[axis]


def _on_the_output(place: Placed | None, axis: int, size: int) -> NDArray[np.float64]:
    """The same on the output, which has `size` pixels where the input has its own number."""
    if place is None:
        return np.arange(size, dtype=np.float64) + 0.5
    return _centres(place, axis) * (size / place.input[axis])


def _between(place: Placed | None, axis: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For every pixel of the image the two of the output that it lies between, and how near it is to the second one, 0..1."""
    at = np.clip(_on_the_output(place, axis, size) - 0.5, 0, size - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, size - 1), (at - low).astype(np.float32)


def _nearest(place: Placed | None, axis: int, size: int) -> NDArray[np.intp]:
    return np.clip(np.floor(_on_the_output(place, axis, size)), 0, size - 1).astype(np.intp)


def _interpolated(plane: NDArray[np.float32], rows: tuple[Any, ...], columns: tuple[Any, ...]) -> NDArray[np.float32]:
    low, high, share = rows
    tall = plane[low] + (plane[high] - plane[low]) * share[:, None]
    low, high, share = columns
    found: NDArray[np.float32] = tall[:, low]
    found += (tall[:, high] - found) * share
    return found


def _without_unseen(mask: NDArray[Any], place: Placed | None) -> NDArray[Any]:
    """Pixels that a crop cut off get the largest number."""
    if place is not None:
        void = np.iinfo(mask.dtype).max
        mask[:, _is_unseen(place, 0)] = void
        mask[_is_unseen(place, 1)] = void
    mask.flags.writeable = False
    return mask


def _is_unseen(place: Placed, axis: int) -> NDArray[np.bool_]:
    at = _centres(place, axis)
    return (at < 0) | (at >= place.input[axis])
