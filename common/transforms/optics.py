"""What an instrument does to a picture: blur, noise, edges."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..slides import FieldOfView
from .views import RandOpticsd, RandViewsd, floats

Views = Sequence[FieldOfView | Mapping[str, Any]]


class RandGaussianBlurd(RandOpticsd):
    """Out of focus.

    Args:
        keys, fields_of_view, prob: as :class:`RandOpticsd`.
        sigma: smallest and largest standard deviation in µm.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        prob: float = 0.5,
        sigma: Sequence[float] = (0.2, 1.5),
    ) -> None:
        super().__init__(keys, fields_of_view, prob)
        self.sigma = floats(sigma, "sigma", 0)

    def draw(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.sigma))

    def changed(self, pixels: np.ndarray, drawn: float, view: int) -> np.ndarray:
        return blurred(pixels, drawn / self.mpp[view])


class RandGlassBlurd(RandOpticsd):
    """As through frosted glass: every pixel is one from nearby, smoothed before and after (Hendrycks and Dietterich
    2019).

    Args:
        keys, fields_of_view, prob: as :class:`RandOpticsd`.
        reach: smallest and largest distance in µm from which pixels come.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        prob: float = 0.5,
        reach: Sequence[float] = (0.5, 2.0),
    ) -> None:
        super().__init__(keys, fields_of_view, prob)
        self.reach = floats(reach, "reach", 0)

    def draw(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.reach))

    def changed(self, pixels: np.ndarray, drawn: float, view: int) -> np.ndarray:
        height, width = pixels.shape[:2]
        reach = drawn / self.mpp[view]
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        from_rows, from_columns = (
            (places + self.R.uniform(-reach, reach, places.shape)).astype(np.float32) for places in (rows, columns)
        )
        smooth = blurred(pixels, 0.3 * reach)
        scattered = cv2.remap(smooth, from_columns, from_rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
        return blurred(scattered, 0.3 * reach)


class RandMotionBlurd(RandOpticsd):
    """Moved while it was scanned.

    Args:
        keys, fields_of_view, prob: as :class:`RandOpticsd`.
        length: smallest and largest length of the movement in µm; its direction is random.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        prob: float = 0.5,
        length: Sequence[float] = (1.0, 6.0),
    ) -> None:
        super().__init__(keys, fields_of_view, prob)
        self.length = floats(length, "length", 0)

    def draw(self, views: Sequence[np.ndarray]) -> tuple[float, float]:
        return float(self.R.uniform(*self.length)), float(self.R.uniform(0, np.pi))

    def changed(self, pixels: np.ndarray, drawn: tuple[float, float], view: int) -> np.ndarray:
        length, angle = drawn[0] / self.mpp[view], drawn[1]
        return cv2.filter2D(pixels, -1, _line(length, angle), borderType=cv2.BORDER_REFLECT_101)


class RandNoised(RandViewsd):
    """Gaussian noise of the sensor, of every pixel and channel.

    Args:
        keys, prob: as :class:`RandViewsd`.
        sigma: smallest and largest standard deviation in grey values.
    """

    def __init__(
        self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, sigma: Sequence[float] = (2.0, 14.0)
    ) -> None:
        super().__init__(keys, prob)
        self.sigma = floats(sigma, "sigma", 0)

    def draw(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.sigma))

    def changed(self, pixels: np.ndarray, drawn: float, view: int) -> np.ndarray:
        return np.clip(np.rint(pixels + self.R.normal(0, drawn, pixels.shape)), 0, 255).astype(np.uint8)


class RandEmbossd(RandViewsd):
    """Edges raised as on a stamp, blended with the picture.

    Args:
        keys, prob: as :class:`RandViewsd`.
        alpha: smallest and largest share of the embossed picture.
        strength: smallest and largest weight of the edges.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.5,
        alpha: Sequence[float] = (0.2, 0.5),
        strength: Sequence[float] = (0.3, 0.9),
    ) -> None:
        super().__init__(keys, prob)
        self.alpha, self.strength = floats(alpha, "alpha", 0), floats(strength, "strength", 0)

    def draw(self, views: Sequence[np.ndarray]) -> tuple[float, float]:
        return float(self.R.uniform(*self.alpha)), float(self.R.uniform(*self.strength))

    def changed(self, pixels: np.ndarray, drawn: tuple[float, float], view: int) -> np.ndarray:
        alpha, strength = drawn
        edges = np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], dtype=np.float32)
        kernel = alpha * strength * edges
        # What is blended in keeps the picture's own grey: the edges' weights add up to 0.
        kernel[1, 1] = 1.0
        return cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by ``sigma`` pixels; of less than a tenth of a pixel nothing would be seen."""
    if sigma < 0.1:
        return pixels
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def _line(length: float, angle: float) -> np.ndarray:
    """A kernel that takes the mean along a line of ``length`` pixels around the middle."""
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
    along = np.linspace(-length / 2, length / 2, max(2, int(np.ceil(4 * length))))
    rows, columns = np.rint(along * np.sin(angle)).astype(int), np.rint(along * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows + half, columns + half), 1)
    return kernel / kernel.sum()
