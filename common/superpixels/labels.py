"""The label of each superpixel, from the labels of its pixels."""

from __future__ import annotations

import numpy as np

from ..annotations import LabelSource
from .segmentation import Superpixels

_TILE = 2048


def majority_labels(found: Superpixels, source: LabelSource, classes: int) -> np.ndarray:
    """Return the most frequent label among the labelled pixels of each superpixel.

    Args:
        found: superpixels of a region.
        source: an annotation or a predicted label map.
        classes: number of classes; labels are 1 to that.

    Returns:
        ``(count,)`` uint8; 0 where fewer than half of the pixels are labelled. Of equally frequent labels, the lowest.
    """
    counts = np.zeros((found.count, classes + 1), dtype=np.int64)
    for tile in found.region.tiles(_TILE):
        labels = found.region.labels(source, tile).ravel().astype(np.int64)
        numbers = np.asarray(found.labels[tile.slices]).ravel().astype(np.int64)
        low = int(numbers.min())
        places = int(numbers.max()) - low + 1
        counted = np.bincount((numbers - low) * (classes + 1) + labels, minlength=places * (classes + 1))
        counts[low : low + places] += counted.reshape(places, classes + 1)
    majority = counts[:, 1:].argmax(axis=1) + 1
    return np.where(2 * counts[:, 0] > counts.sum(axis=1), 0, majority).astype(np.uint8)
