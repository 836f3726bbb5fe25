"""Views of a patch as OpenCV takes them, and checks of what transforms are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..slides import FieldOfView

# Data loaders have as many workers as there are cores. OpenCV's threads in each would only wait, and they do not
# survive a fork.
cv2.setNumThreads(0)

Views = Sequence[FieldOfView | Mapping[str, Any]]


def as_pixels(view: np.ndarray) -> np.ndarray:
    """Return a view ``(3, H, W)`` with values from 0 to 255 as OpenCV's ``(H, W, 3)`` uint8."""
    if view.dtype != np.uint8:
        view = np.clip(np.rint(view), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(view.transpose(1, 2, 0))


def number_range(low_high: Sequence[float], name: str, least: float) -> tuple[float, float]:
    """Return a range of numbers that a transform is given.

    Args:
        low_high: its ends.
        name: name of the argument, for the error.
        least: smallest number allowed.

    Raises:
        ValueError: it is not two numbers, the smaller first, of at least ``least``.
    """
    if len(low_high) != 2 or not least <= low_high[0] <= low_high[1]:
        raise ValueError(f"{name} must be two numbers, the smaller first, from {least:g} on, not {low_high}")
    return float(low_high[0]), float(low_high[1])
