"""How strongly what is stained is stained, and how bright."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.exposure import adjust_gamma

from .views import RandViewsd, floats


@dataclass(frozen=True)
class StainedRange:
    """A colour of stained nuclei and how much it may change; all in OpenCV's 8-bit HSV (hue 0 to 180, others to 255).

    Attributes:
        hue: first and last hue of the colour.
        saturation, value: smallest and largest shift.
    """

    hue: tuple[int, int]
    saturation: tuple[int, int]
    value: tuple[int, int]


# The shifts are Modi et al. 2024's, Table 6. The hues are not in the paper: from 10 to 44 degrees lies
# diaminobenzidine, from 190 to 280 haematoxylin, and eosin in neither.
BROWN = StainedRange((5, 22), (-30, 81), (-80, 81))
BLUE = StainedRange((95, 140), (-40, 61), (-60, 61))


class RandTargetedHSVd(RandViewsd):
    """Shift saturation and value of stained nuclei, brown and blue each by its own draw; leave everything else.

    Args:
        keys, prob: as :class:`RandViewsd`.
        ranges: the colours; brown and blue by default.
        least_saturation: pixels below are not stained, whatever their hue: that of glass is noise.
        darkest_background: share of the view's light (the 95th percentile of its grey values) below which a pixel is
            stained: scanners tint background and stroma in the nuclei's own hues.

    Source: Modi et al. 2024, section "Targeted HSV augmentation" and Table 6.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.5,
        ranges: Sequence[StainedRange] = (BROWN, BLUE),
        least_saturation: int = 25,
        darkest_background: float = 0.8,
    ) -> None:
        super().__init__(keys, prob)
        self.ranges = tuple(ranges)
        self.least_saturation, self.darkest_background = least_saturation, darkest_background

    def draw(self) -> list[tuple[int, int]]:
        return [(int(self.R.randint(*found.saturation)), int(self.R.randint(*found.value))) for found in self.ranges]

    def changed(self, pixels: np.ndarray, drawn: list[tuple[int, int]], view: int) -> np.ndarray:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        result = pixels.copy()
        grey = pixels.mean(axis=2)
        dark = (grey < self.darkest_background * np.percentile(grey, 95)) & (hsv[..., 1] >= self.least_saturation)
        for found, shifts in zip(self.ranges, drawn, strict=True):
            stained = dark & (hsv[..., 0] >= found.hue[0]) & (hsv[..., 0] <= found.hue[1])
            if not stained.any():
                continue
            shifted = hsv[stained].astype(np.int16)
            shifted[:, 1:] = np.clip(shifted[:, 1:] + np.array(shifts, dtype=np.int16), 0, 255)
            # Pixels elsewhere are not turned to HSV and back, which rounds.
            result[stained] = cv2.cvtColor(shifted.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]
        return result


class RandPCAColord(RandViewsd):
    """Move all colours along the principal axes of the patch's own (Krizhevsky et al. 2012).

    Args:
        keys, prob: as :class:`RandViewsd`.
        sigma: standard deviation of the movement along each axis, as a share of the colours' own.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, sigma: float = 0.3) -> None:
        super().__init__(keys, prob)
        self.sigma = sigma

    def draw(self) -> np.ndarray:
        return self.R.normal(0, self.sigma, 3)

    def changed(self, pixels: np.ndarray, drawn: np.ndarray, view: int) -> np.ndarray:
        spread, axes = np.linalg.eigh(np.cov(pixels.reshape(-1, 3), rowvar=False))
        # An axis points either way: its largest part is taken for positive, so that views move alike.
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(3)])
        moved = pixels + axes @ (drawn * np.sqrt(np.maximum(spread, 0)))
        return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


class RandGammad(RandViewsd):
    """Brightness to the power of gamma, scikit-image's. (MONAI's RandAdjustContrastd first stretches each patch to the
    full range of its own values, which would brighten glass.)

    Args:
        keys, prob: as :class:`RandViewsd`.
        gamma: smallest and largest, drawn evenly on a logarithmic scale.
    """

    def __init__(
        self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, gamma: Sequence[float] = (0.6, 1.7)
    ) -> None:
        super().__init__(keys, prob)
        self.gamma = floats(gamma, "gamma", 1e-3)

    def draw(self) -> float:
        return float(np.exp(self.R.uniform(*np.log(self.gamma))))

    def changed(self, pixels: np.ndarray, drawn: float, view: int) -> np.ndarray:
        return adjust_gamma(pixels, drawn)


class RandCLAHEd(RandViewsd):
    """Contrast-limited adaptive histogram equalisation of lightness, OpenCV's.

    Args:
        keys, prob: as :class:`RandViewsd`.
        limit: smallest and largest clip limit.
        tiles: a side of a view.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.5,
        limit: Sequence[float] = (1.0, 3.0),
        tiles: int = 8,
    ) -> None:
        super().__init__(keys, prob)
        self.limit, self.tiles = floats(limit, "limit", 0), tiles

    def draw(self) -> float:
        return float(self.R.uniform(*self.limit))

    def changed(self, pixels: np.ndarray, drawn: float, view: int) -> np.ndarray:
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(drawn, (self.tiles, self.tiles)).apply(np.ascontiguousarray(lab[..., 0]))
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
