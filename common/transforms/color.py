"""Colour augmentation of each magnification."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from monai.transforms import MapTransform, RandomizableTransform


class RandColorPerViewd(RandomizableTransform, MapTransform):
    """Random brightness, contrast, hue and saturation, the same in all views.

    Args:
        keys: images ``(3·S, H, W)`` of values from 0 to 255, before they are scaled for the network.
        prob: of each of the three (brightness and contrast; hue and saturation go together).
        brightness: largest shift, as a share of full scale.
        contrast: smallest and largest factor around the view's mean; with ``shared``, the coarsest view's.
        hue: largest turn of the colour circle in degrees.
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
                # One middle for all: the same tissue has the same colour in every view.
                drawn, middle = self._draw(), float(views[-1].mean())
                views = [self._changed(view, drawn, middle) for view in views]
            else:
                views = [self._changed(view, self._draw(), float(view.mean())) for view in views]
            result[key] = np.concatenate(views) * np.float32(255)
        return result

    def _draw(self) -> dict[str, float]:
        drawn: dict[str, float] = {}
        if self.R.random() < self.each:
            drawn["brightness"] = self.R.uniform(-self.brightness, self.brightness)
        if self.R.random() < self.each:
            drawn["contrast"] = self.R.uniform(self.contrast[0], self.contrast[1])
        if (self.hue or self.saturation) and self.R.random() < self.each:
            drawn["hue"] = self.R.uniform(-self.hue, self.hue) / 360
            drawn["saturation"] = self.R.uniform(-self.saturation, self.saturation)
        return drawn

    @staticmethod
    def _changed(view: np.ndarray, drawn: Mapping[str, float], middle: float) -> np.ndarray:
        if "hue" in drawn:
            hsv = cv2.cvtColor(view.transpose(1, 2, 0), cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0] + 360 * drawn["hue"]) % 360
            hsv[..., 1] = np.clip(hsv[..., 1] + drawn["saturation"], 0, 1)
            view = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).transpose(2, 0, 1)
        if "contrast" in drawn:
            view = (view - middle) * drawn["contrast"] + middle
        if "brightness" in drawn:
            view = view + drawn["brightness"]
        return np.clip(view, 0, 1).astype(np.float32)
