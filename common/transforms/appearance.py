"""Base of transforms that change the appearance of a patch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import MapTransform, RandomizableTransform

from .views import as_pixels


class RandAppearanced(RandomizableTransform, MapTransform, ABC):
    """Base of transforms that change the appearance of a patch but not its geometry.

    Random parameters are sampled once per patch and applied to each of its views.

    Args:
        keys: keys of images ``(3·S, H, W)`` with values from 0 to 255, finest view first. They become uint8.
        prob: probability of applying the transform.
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
            parameters = self.sample(views)
            changed = [self.apply(pixels, parameters, view) for view, pixels in enumerate(views)]
            result[key] = np.concatenate([pixels.transpose(2, 0, 1) for pixels in changed])
        return result

    @abstractmethod
    def sample(self, views: Sequence[np.ndarray]) -> Any:
        """Return the parameters for a patch: random ones, and what it takes from the patch as a whole.

        Args:
            views: the patch's views, ``(H, W, 3)`` uint8 each, coarsest last.
        """

    @abstractmethod
    def apply(self, pixels: np.ndarray, parameters: Any, view: int) -> np.ndarray:
        """Return a changed view.

        Args:
            pixels: the view, ``(H, W, 3)`` uint8.
            parameters: those that :meth:`sample` returned.
            view: index of the view, finest first.
        """
