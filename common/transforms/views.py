"""What changes the look of a patch: drawn once, done to each of its views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from monai.transforms import MapTransform, RandomizableTransform

from ..slides import FieldOfView

# A loader's workers are as many as there are cores; OpenCV's own threads next to them only wait, and do not outlive a
# fork.
cv2.setNumThreads(0)


def as_pixels(view: np.ndarray) -> np.ndarray:
    """``(3, H, W)`` of values from 0 to 255 -> ``(H, W, 3)`` uint8, as OpenCV takes it."""
    if view.dtype != np.uint8:
        view = np.clip(np.rint(view), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(view.transpose(1, 2, 0))


class RandViewsd(RandomizableTransform, MapTransform, ABC):
    """Base of transforms that change how a patch looks and nothing of where it is.

    Args:
        keys: images ``(3·S, H, W)`` of values from 0 to 255, finest view first. They become uint8.
        prob: of doing anything.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], prob: float = 0.5) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            image = np.asarray(result[key])
            views = [as_pixels(image[3 * view : 3 * view + 3]) for view in range(len(image) // 3)]
            drawn = self.draw(views)
            changed = [self.changed(pixels, drawn, view) for view, pixels in enumerate(views)]
            result[key] = np.concatenate([pixels.transpose(2, 0, 1) for pixels in changed])
        return result

    @abstractmethod
    def draw(self, views: Sequence[np.ndarray]) -> Any:
        """What is random of it, and what it takes of the patch as a whole: once for all views, the coarsest of which is
        the last."""

    @abstractmethod
    def changed(self, pixels: np.ndarray, drawn: Any, view: int) -> np.ndarray:
        """A view changed: ``(H, W, 3)`` uint8 in and out."""


class RandOpticsd(RandViewsd, ABC):
    """Base of transforms whose size is in µm on the slide: each view is changed by as many of its own pixels.

    Args:
        keys, prob: as :class:`RandViewsd`.
        fields_of_view: the views, finest first.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        prob: float = 0.5,
    ) -> None:
        super().__init__(keys, prob)
        self.mpp = [FieldOfView.from_config(view).mpp for view in fields_of_view]


def floats(low_high: Sequence[float], name: str, least: float = -np.inf) -> tuple[float, float]:
    """A range that a transform is given.

    Raises:
        ValueError: not two numbers, the smaller first, from ``least`` on.
    """
    if len(low_high) != 2 or not least <= low_high[0] <= low_high[1]:
        raise ValueError(f"{name} must be two numbers, the smaller first, from {least:g} on, not {low_high}")
    return float(low_high[0]), float(low_high[1])
