"""How strongly what is stained is stained, and how bright."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.color import rgb_from_hed
from skimage.exposure import adjust_gamma

from .views import RandViewsd, floats


@dataclass(frozen=True)
class Shifts:
    """Smallest and largest shift of saturation and value in OpenCV's 8-bit HSV (0 to 255)."""

    saturation: tuple[int, int]
    value: tuple[int, int]


# Modi et al. 2024, Table 6.
BROWN = Shifts((-30, 81), (-80, 81))
BLUE = Shifts((-40, 61), (-60, 61))
# All amounts together up to which a pixel may be glass.
_GLASS = 0.08
# From optical densities to amounts of haematoxylin, eosin and diaminobenzidine.
_AMOUNTS = np.linalg.inv(rgb_from_hed / np.linalg.norm(rgb_from_hed, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Background:
    """What of a patch is not stained.

    Attributes:
        light: grey values of red, green and blue where there is nothing.
        usual: amounts of haematoxylin, eosin and diaminobenzidine that most of its tissue has.
    """

    light: np.ndarray
    usual: np.ndarray

    @classmethod
    def of(cls, views: Sequence[np.ndarray]) -> Background:
        """Of a patch's views, ``(H, W, 3)`` uint8: what lies around the finest one, as the coarsest shows it, tells."""
        light = np.max([np.percentile(view.reshape(-1, 3), 95, axis=0) for view in views], axis=0)
        bare = cls(light.astype(np.float32), np.zeros(3, dtype=np.float32))
        amounts = bare.amounts(views[-1][::4, ::4]).reshape(-1, 3)
        tissue = amounts[amounts.sum(axis=1) > _GLASS]
        return cls(bare.light, np.percentile(tissue, 30, axis=0).astype(np.float32)) if len(tissue) else bare

    def amounts(self, pixels: np.ndarray) -> np.ndarray:
        """Of the three dyes in each pixel, ``(…, 3)`` float32."""
        density = -np.log((pixels.astype(np.float32) + 1) / (self.light + 1))
        return np.maximum(density, 0) @ _AMOUNTS


class RandTargetedHSVd(RandViewsd):
    """Shift saturation and value of stained nuclei and membranes, brown and blue each by its own draw; leave the rest.

    The paper tells nuclei by their hue. On slides whose background or eosin has the nuclei's own hue that shifts
    stroma, and hues of nearly black pixels are noise; so here amounts of the dyes tell (Ruifrok and Johnston 2001).
    Before any transform that turns hues.

    Args:
        keys, prob: as :class:`RandViewsd`.
        brown, blue: the shifts of what diaminobenzidine and haematoxylin stain.
        least: by how much the amount of a dye (optical density) must be above what most of the patch has, its 30th
            percentile: thick sections and some scanners have haematoxylin's colour in everything.

    Source: Modi et al. 2024, section "Targeted HSV augmentation" and Table 6.
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

    def draw(self, views: Sequence[np.ndarray]) -> tuple[list[tuple[int, int]], Background]:
        """Shifts of both colours, and what the whole patch's background is."""
        shifts = [
            tuple(int(self.R.randint(low, high + 1)) for low, high in (found.saturation, found.value))
            for found in self.colors
        ]
        return [(saturation, value) for saturation, value in shifts], Background.of(views)

    def changed(self, pixels: np.ndarray, drawn: tuple[list[tuple[int, int]], Background], view: int) -> np.ndarray:
        shifts, background = drawn
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        # Of nearly black pixels the surroundings know the hue.
        hsv[..., 0] = cv2.cvtColor(cv2.blur(pixels, (5, 5)), cv2.COLOR_RGB2HSV)[..., 0]
        result = pixels
        for stained, (saturation, value) in zip(self.stained(pixels, background), shifts, strict=True):
            if stained.any():
                moved = hsv.astype(np.int16) + np.array([0, saturation, value], dtype=np.int16)
                shown = cv2.cvtColor(np.clip(moved, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
                # Softly, or nuclei get rims.
                share = cv2.blur(stained.astype(np.float32), (3, 3))[..., None] * stained[..., None]
                result = np.rint(result * (1 - share) + shown * share).astype(np.uint8)
        return result

    def stained(self, pixels: np.ndarray, background: Background) -> tuple[np.ndarray, np.ndarray]:
        """Where a view ``(H, W, 3)`` uint8 is brown, and where it is blue."""
        amounts = background.amounts(pixels)
        most = amounts.argmax(axis=-1)
        enough = amounts >= background.usual + self.least
        return (most == 2) & enough[..., 2], (most == 0) & enough[..., 0]


class RandPCAColord(RandViewsd):
    """Move all colours along the principal axes of the coarsest view's own (Krizhevsky et al. 2012).

    Args:
        keys, prob: as :class:`RandViewsd`.
        sigma: standard deviation of the movement along each axis, as a share of the colours' own.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], prob: float = 0.5, sigma: float = 0.3) -> None:
        super().__init__(keys, prob)
        self.sigma = sigma

    def draw(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """By how much all colours move: along the axes of the coarsest view's."""
        spread, axes = np.linalg.eigh(np.cov(views[-1].reshape(-1, 3), rowvar=False))
        return axes @ (self.R.normal(0, self.sigma, 3) * np.sqrt(np.maximum(spread, 0)))

    def changed(self, pixels: np.ndarray, drawn: np.ndarray, view: int) -> np.ndarray:
        return np.clip(np.rint(pixels + drawn), 0, 255).astype(np.uint8)


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

    def draw(self, views: Sequence[np.ndarray]) -> float:
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

    def draw(self, views: Sequence[np.ndarray]) -> float:
        return float(self.R.uniform(*self.limit))

    def changed(self, pixels: np.ndarray, drawn: float, view: int) -> np.ndarray:
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(drawn, (self.tiles, self.tiles)).apply(np.ascontiguousarray(lab[..., 0]))
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
