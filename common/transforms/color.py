"""Random brightness, contrast, hue and saturation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from monai.transforms import MapTransform, RandomizableTransform


class RandColorPerViewd(RandomizableTransform, MapTransform):
    """Change brightness, contrast, hue and saturation at random, the same in all views.

    Args:
        keys: keys of images ``(3·S, H, W)`` with values from 0 to 255, before they are scaled for the network.
        prob: probability of each of three changes: of brightness, of contrast, and of hue and saturation together.
        brightness: largest shift, as a share of full scale.
        contrast: smallest and largest factor around the view's mean; with ``shared``, around the coarsest view's.
        hue: largest rotation of the colour circle in degrees.
        saturation: largest shift, as a share of full scale.
        shared: draw once for all views, which show the same tissue; else for each view by itself. With wide ranges, the
            heavy colour augmentation of Modi et al. 2024.

    Example:
        >>> import numpy as np
        >>> from common.transforms import RandColorPerViewd
        >>> jitter = RandColorPerViewd(keys="image", prob=1.0)
        >>> jitter({"image": np.full((6, 64, 64), 128, np.uint8)})["image"].shape
        (6, 64, 64)

    Source: Ho et al. 2021, section 2.5; the ranges are the released code's, which colours a patch before it cuts the
        views from it.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.5,
        brightness: float = 0.25,
        contrast: tuple[float, float] = (0.25, 1.75),
        hue: float = 40.0,
        saturation: float = 0.12,
        shared: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.each, self.brightness, self.contrast = prob, brightness, contrast
        self.hue, self.saturation, self.shared = hue, saturation, shared

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = np.asarray(result[key], dtype=np.float32) / 255
            views = [image[i : i + 3] for i in range(0, len(image), 3)]
            if self.shared:
                # One mean for all views, so that tissue has the same colour in each.
                changes, mean = self._sample(), float(views[-1].mean())
                views = [self._changed(view, changes, mean) for view in views]
            else:
                views = [self._changed(view, self._sample(), float(view.mean())) for view in views]
            result[key] = np.concatenate(views) * np.float32(255)
        return result

    def _sample(self) -> dict[str, float]:
        changes: dict[str, float] = {}
        if self.R.random() < self.each:
            changes["brightness"] = self.R.uniform(-self.brightness, self.brightness)
        if self.R.random() < self.each:
            changes["contrast"] = self.R.uniform(self.contrast[0], self.contrast[1])
        if (self.hue or self.saturation) and self.R.random() < self.each:
            changes["hue"] = self.R.uniform(-self.hue, self.hue) / 360
            changes["saturation"] = self.R.uniform(-self.saturation, self.saturation)
        return changes

    @staticmethod
    def _changed(view: np.ndarray, changes: Mapping[str, float], mean: float) -> np.ndarray:
        if "hue" in changes:
            hsv = cv2.cvtColor(view.transpose(1, 2, 0), cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0] + 360 * changes["hue"]) % 360
            hsv[..., 1] = np.clip(hsv[..., 1] + changes["saturation"], 0, 1)
            view = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).transpose(2, 0, 1)
        if "contrast" in changes:
            view = (view - mean) * changes["contrast"] + mean
        if "brightness" in changes:
            view = view + changes["brightness"]
        return np.clip(view, 0, 1).astype(np.float32)
