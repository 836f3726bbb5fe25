"""Find the tissue on a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from .slide import Slide

# With a smaller spread of grey values there is nothing to separate: the slide is all tissue or all glass.
_LEAST_SPREAD = 8.0
_STRIPE_ROWS = 512


@dataclass(frozen=True)
class TissueMask:
    """The tissue of a slide.

    Attributes:
        mask: ``(h, w)`` bool, True for tissue.
        pixel: height and width of a mask pixel in level-0 pixels.
        threshold: grey value up to which a pixel is tissue.
    """

    mask: np.ndarray
    pixel: tuple[float, float]
    threshold: float

    def any(self, top: float, left: float, height: float, width: float) -> bool:
        """Return whether a rectangle, in level-0 pixels, touches tissue."""
        # The slide may extend past the mask by up to half a mask pixel; the mask's last pixel counts there.
        first = [
            min(max(int(np.floor(start / step)), 0), side - 1 if start < (side + 0.5) * step else side)
            for start, step, side in zip((top, left), self.pixel, self.mask.shape, strict=True)
        ]
        last = [
            int(np.ceil((start + size) / step))
            for start, size, step in zip((top, left), (height, width), self.pixel, strict=True)
        ]
        return bool(self.mask[first[0] : max(last[0], 0), first[1] : max(last[1], 0)].any())

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return whether each point of a grid is tissue; a point outside the slide counts as the nearest edge.

        Args:
            rows, columns: ``(H,)`` and ``(W,)``, level-0 pixels.

        Returns:
            ``(H, W)`` bool.
        """
        index = [
            np.clip((places / step).astype(np.int64), 0, side - 1)
            for places, step, side in zip((rows, columns), self.pixel, self.mask.shape, strict=True)
        ]
        return self.mask[np.ix_(*index)]

    @property
    def share(self) -> float:
        """Return the share of the slide that is tissue."""
        return float(self.mask.mean())


@dataclass(frozen=True)
class RegionMask:
    """Regions of interest of a slide, and their tissue.

    Attributes:
        regions: ``[top, left, height, width]`` in level-0 pixels.
        tissue: the slide's tissue; None to count everything as tissue.
        pixelwise: count only the tissue pixels of the regions.
    """

    regions: Sequence[Sequence[float]]
    tissue: TissueMask | None = None
    pixelwise: bool = False

    def any(self, top: float, left: float, height: float, width: float) -> bool:
        """Return whether a rectangle, in level-0 pixels, touches a region and tissue."""
        touched = any(
            top < first + tall and first < top + height and left < begin + wide and begin < left + width
            for first, begin, tall, wide in self.regions
        )
        return touched and (self.tissue is None or self.tissue.any(top, left, height, width))

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return whether each point of a grid counts; see :meth:`TissueMask.at`."""
        inside = np.zeros((len(rows), len(columns)), dtype=bool)
        for top, left, height, width in self.regions:
            down, across = (rows >= top) & (rows < top + height), (columns >= left) & (columns < left + width)
            inside |= down[:, None] & across[None]
        return inside & self.tissue.at(rows, columns) if self.tissue is not None and self.pixelwise else inside


def tissue_mask(slide: Slide, mpp: float = 8.0, closing: float = 16.0) -> TissueMask:
    """Separate tissue from glass by Otsu's threshold on grey values (Ho et al. 2021, section 2.6).

    Adipose tissue is nearly as bright as glass: most of it counts as glass, as in the paper. A slide without contrast
    is all tissue, so that nothing is lost unseen.

    Args:
        slide: the slide.
        mpp: µm/px of the mask; at least the slide's own.
        closing: width in µm up to which gaps are closed.
    """
    mpp = max(mpp, slide.mpp)
    pixel = slide.level0_pixels(mpp)
    height, width = (max(1, round(side / step)) for side, step in zip(slide.shape, pixel, strict=True))
    grey = np.empty((height, width), dtype=np.uint8)
    for top in range(0, height, _STRIPE_ROWS):
        rows = min(_STRIPE_ROWS, height - top)
        center = ((top + rows / 2) * pixel[0], width / 2 * pixel[1])
        stripe = slide.read(center, mpp, (rows, width), level_tolerance=0)
        grey[top : top + rows] = np.round(stripe @ np.array([0.299, 0.587, 0.114]))
    spread = float(np.percentile(grey, 99.5) - np.percentile(grey, 0.5))
    if spread < _LEAST_SPREAD:
        return TissueMask(np.ones_like(grey, dtype=bool), pixel, 255.0)
    threshold = float(threshold_otsu(grey))
    reach = max(1, round(closing / mpp / 2))
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    mask = ndimage.binary_closing(np.pad(grey <= threshold, reach), structure=disc)[reach:-reach, reach:-reach]
    return TissueMask(mask, pixel, threshold)
