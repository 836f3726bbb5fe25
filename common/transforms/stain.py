"""Colour transforms that know stains: targeted HSV shifts, principal axes of colour, gamma and CLAHE."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.color import rgb_from_hed
from skimage.exposure import adjust_gamma

from .appearance import RandAppearanced
from .views import number_range


@dataclass(frozen=True)
class Shifts:
    """Ranges of shifts of saturation and value, in OpenCV's 8-bit HSV (0 to 255)."""

    saturation: tuple[int, int]
    value: tuple[int, int]


# Modi et al. 2024, Table 6.
BROWN = Shifts((-30, 81), (-80, 81))
BLUE = Shifts((-40, 61), (-60, 61))
# Sum of dye amounts up to which a pixel may be glass.
_GLASS = 0.08
# Matrix from optical densities to amounts of haematoxylin, eosin and diaminobenzidine.
_AMOUNTS = np.linalg.inv(rgb_from_hed / np.linalg.norm(rgb_from_hed, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Background:
    """Light and background staining of a patch.

    Attributes:
        light: red, green and blue of empty glass.
        usual: amounts of haematoxylin, eosin and diaminobenzidine that most of the tissue has.
    """

    light: np.ndarray
    usual: np.ndarray

    @classmethod
    def estimate(cls, views: Sequence[np.ndarray]) -> Background:
        """Estimate the background from a patch's views, ``(H, W, 3)`` uint8. Amounts come from the coarsest, which also
        shows the tissue around the finest."""
        light = np.max([np.percentile(view.reshape(-1, 3), 95, axis=0) for view in views], axis=0)
        bare = cls(light.astype(np.float32), np.zeros(3, dtype=np.float32))
        amounts = bare.amounts(views[-1][::4, ::4]).reshape(-1, 3)
        tissue = amounts[amounts.sum(axis=1) > _GLASS]
        return cls(bare.light, np.percentile(tissue, 30, axis=0).astype(np.float32)) if len(tissue) else bare

    def amounts(self, pixels: np.ndarray) -> np.ndarray:
        """Return the amounts of the three dyes in each pixel, ``(…, 3)`` float32."""
        density = -np.log((pixels.astype(np.float32) + 1) / (self.light + 1))
        return np.maximum(density, 0) @ _AMOUNTS


class RandTargetedHSVd(RandAppearanced):
    """Shift saturation and value of stained nuclei and membranes only, independently for brown and for blue.

    The paper finds nuclei by their hue. Where the background or eosin has the nuclei's hue, that shifts stroma too, and
    the hue of nearly black pixels is noise. Here nuclei are found by the amounts of the dyes (Ruifrok and Johnston
    2001). Apply before any transform that changes hues.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        brown, blue: shifts of tissue stained by diaminobenzidine and by haematoxylin.
        least: smallest excess of a dye's amount (optical density) over that of most of the patch (30th percentile).
            Thick sections and some scanners show haematoxylin's colour everywhere.

    Source: Modi et al. 2024, section "Targeted HSV augmentation" and Table 6.

    Example::

        augment = Compose([RandTargetedHSVd("image"), RandColorPerViewd("image", hue=180.0, shared=True)])
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.5,
        brown: Shifts = BROWN,
        blue: Shifts = BLUE,
        least: float = 0.4,
    ) -> None:
        super().__init__(keys, prob)
        self.colors, self.least = (brown, blue), least

    def sample(self, views: Sequence[np.ndarray]) -> tuple[list[tuple[int, int]], Background]:
        """Return the shifts of saturation and value of both colours, and the patch's background."""
        shifts = [(self._shift(color.saturation), self._shift(color.value)) for color in self.colors]
        return shifts, Background.estimate(views)

    def _shift(self, low_high: tuple[int, int]) -> int:
        return int(self.R.randint(low_high[0], low_high[1] + 1))

    def apply(self, pixels: np.ndarray, parameters: tuple[list[tuple[int, int]], Background], view: int) -> np.ndarray:
        shifts, background = parameters
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        # Nearly black pixels have no hue of their own: take that of their surroundings.
        hsv[..., 0] = cv2.cvtColor(cv2.blur(pixels, (5, 5)), cv2.COLOR_RGB2HSV)[..., 0]
        result = pixels
        for stained, (saturation, value) in zip(self.stained(pixels, background), shifts, strict=True):
            if stained.any():
                moved = hsv.astype(np.int16) + np.array([0, saturation, value], dtype=np.int16)
                shown = cv2.cvtColor(np.clip(moved, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
                # A soft edge, or nuclei would get rims.
                share = cv2.blur(stained.astype(np.float32), (3, 3))[..., None] * stained[..., None]
                result = np.rint(result * (1 - share) + shown * share).astype(np.uint8)
        return result

    def stained(self, pixels: np.ndarray, background: Background) -> tuple[np.ndarray, np.ndarray]:
        """Return masks of the brown and of the blue pixels of a view ``(H, W, 3)`` uint8."""
        amounts = background.amounts(pixels)
        most = amounts.argmax(axis=-1)
        enough = amounts >= background.usual + self.least
        return (most == 2) & enough[..., 2], (most == 0) & enough[..., 0]


class RandPCAColord(RandAppearanced):
    """Shift all colours along the principal axes of the coarsest view's colours.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        sigma: standard deviation of the shift along each axis, relative to that of the colours.

    Source: Krizhevsky et al. 2012.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, sigma: float = 0.3) -> None:
        super().__init__(keys, prob)
        self.sigma = sigma

    def sample(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Return the shift of all colours."""
        spread, axes = np.linalg.eigh(np.cov(views[-1].reshape(-1, 3), rowvar=False))
        return axes @ (self.R.normal(0, self.sigma, 3) * np.sqrt(np.maximum(spread, 0)))

    def apply(self, pixels: np.ndarray, parameters: np.ndarray, view: int) -> np.ndarray:
        return np.clip(np.rint(pixels + parameters), 0, 255).astype(np.uint8)


class RandGammad(RandAppearanced):
    """Gamma correction, as in scikit-image.

    MONAI's RandAdjustContrastd first stretches each patch to the full range of its values, which would brighten glass.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        gamma: smallest and largest gamma, uniform on a logarithmic scale.
    """

    def __init__(
        self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, gamma: Sequence[float] = (0.6, 1.7)
    ) -> None:
        super().__init__(keys, prob)
        self.gamma = number_range(gamma, "gamma", 1e-3)

    def sample(self, views: Sequence[np.ndarray]) -> float:
        return float(np.exp(self.R.uniform(*np.log(self.gamma))))

    def apply(self, pixels: np.ndarray, parameters: float, view: int) -> np.ndarray:
        return adjust_gamma(pixels, parameters)


class RandCLAHEd(RandAppearanced):
    """Contrast-limited adaptive histogram equalisation (CLAHE) of the lightness, as in OpenCV.

    Args:
        keys, prob: see :class:`RandAppearanced`.
        limit: smallest and largest clip limit.
        tiles: tiles along each side of a view.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        prob: float = 0.5,
        limit: Sequence[float] = (1.0, 3.0),
        tiles: int = 8,
    ) -> None:
        super().__init__(keys, prob)
        self.limit, self.tiles = number_range(limit, "limit", 0), tiles

    def sample(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.limit))

    def apply(self, pixels: np.ndarray, parameters: float, view: int) -> np.ndarray:
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(parameters, (self.tiles, self.tiles)).apply(np.ascontiguousarray(lab[..., 0]))
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
