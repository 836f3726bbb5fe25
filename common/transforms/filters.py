"""Blur, sensor noise and embossing."""

from __future__ import annotations

from abc import ABC
from collections.abc import Hashable, Sequence

import cv2
import numpy as np

from ..slides import FieldOfView
from .appearance import RandAppearanced
from .views import Views, number_range


class RandBlurd(RandAppearanced, ABC):
    """Base of blurs. Their size is in µm on the slide, the same in every view.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        fields_of_view: the views, finest first.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], fields_of_view: Views, prob: float = 0.5) -> None:
        super().__init__(keys, prob)
        self.mpp = [FieldOfView.from_config(view).mpp for view in fields_of_view]


class RandGaussianBlurd(RandBlurd):
    """Blur of a slide out of focus.

    Args:
        keys, fields_of_view, prob: see :class:`RandBlurd`.
        sigma: smallest and largest standard deviation in µm.

    Example::

        views = [{"mpp": 0.5, "size": 512}, {"mpp": 2.0, "size": 512}]
        item = RandGaussianBlurd("image", views, prob=0.3)({"image": np.zeros((6, 512, 512), np.uint8)})
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        prob: float = 0.5,
        sigma: Sequence[float] = (0.2, 1.5),
    ) -> None:
        super().__init__(keys, fields_of_view, prob)
        self.sigma = number_range(sigma, "sigma", 0)

    def sample(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.sigma))

    def apply(self, pixels: np.ndarray, parameters: float, view: int) -> np.ndarray:
        return blurred(pixels, parameters / self.mpp[view])


class RandGlassBlurd(RandBlurd):
    """Blur of frosted glass: each pixel is replaced by a random one nearby, with smoothing before and after.

    Args:
        keys, fields_of_view, prob: see :class:`RandBlurd`.
        reach: smallest and largest value, in µm, of how far along each axis pixels move.

    Source: Hendrycks and Dietterich 2019.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        prob: float = 0.5,
        reach: Sequence[float] = (0.5, 2.0),
    ) -> None:
        super().__init__(keys, fields_of_view, prob)
        self.reach = number_range(reach, "reach", 0)

    def sample(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.reach))

    def apply(self, pixels: np.ndarray, parameters: float, view: int) -> np.ndarray:
        height, width = pixels.shape[:2]
        reach = parameters / self.mpp[view]
        rows, columns = (
            (at + self.R.uniform(-reach, reach, at.shape)).astype(np.float32)
            for at in np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        )
        smooth = blurred(pixels, 0.3 * reach)
        scattered = cv2.remap(smooth, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
        return blurred(scattered, 0.3 * reach)


class RandMotionBlurd(RandBlurd):
    """Blur of a slide that moved during the scan, in a random direction.

    Args:
        keys, fields_of_view, prob: see :class:`RandBlurd`.
        length: smallest and largest length of the movement in µm.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        prob: float = 0.5,
        length: Sequence[float] = (1.0, 6.0),
    ) -> None:
        super().__init__(keys, fields_of_view, prob)
        self.length = number_range(length, "length", 0)

    def sample(self, views: Sequence[np.ndarray]) -> tuple[float, float]:
        return float(self.R.uniform(*self.length)), float(self.R.uniform(0, np.pi))

    def apply(self, pixels: np.ndarray, parameters: tuple[float, float], view: int) -> np.ndarray:
        length, angle = parameters
        kernel = _line(length / self.mpp[view], angle)
        return cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


class RandNoised(RandAppearanced):
    """Gaussian noise of the sensor, independent in every pixel and channel.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        sigma: smallest and largest standard deviation in grey values.

    Example::

        item = RandNoised("image", prob=0.3)({"image": np.zeros((6, 512, 512), np.uint8)})
    """

    def __init__(
        self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, sigma: Sequence[float] = (2.0, 14.0)
    ) -> None:
        super().__init__(keys, prob)
        self.sigma = number_range(sigma, "sigma", 0)

    def sample(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.sigma))

    def apply(self, pixels: np.ndarray, parameters: float, view: int) -> np.ndarray:
        return np.clip(np.rint(pixels + self.R.normal(0, parameters, pixels.shape)), 0, 255).astype(np.uint8)


class RandEmbossd(RandAppearanced):
    """Embossing: raised edges, blended with the image.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        alpha: smallest and largest share of the embossed image.
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
        self.alpha, self.strength = number_range(alpha, "alpha", 0), number_range(strength, "strength", 0)

    def sample(self, views: Sequence[np.ndarray]) -> tuple[float, float]:
        return float(self.R.uniform(*self.alpha)), float(self.R.uniform(*self.strength))

    def apply(self, pixels: np.ndarray, parameters: tuple[float, float], view: int) -> np.ndarray:
        alpha, strength = parameters
        edges = np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], dtype=np.float32)
        kernel = alpha * strength * edges
        # The edges' weights add up to 0, so that the image keeps its own grey.
        kernel[1, 1] = 1.0
        return cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Return the pixels after a Gaussian blur of ``sigma`` pixels. Less than a tenth of a pixel would change nothing
    visible and is skipped."""
    if sigma < 0.1:
        return pixels
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def _line(length: float, angle: float) -> np.ndarray:
    """Return a kernel that averages along a line of ``length`` pixels through its centre."""
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
    along = np.linspace(-length / 2, length / 2, max(2, int(np.ceil(4 * length))))
    rows, columns = np.rint(along * np.sin(angle)).astype(int), np.rint(along * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows + half, columns + half), 1)
    return kernel / kernel.sum()
