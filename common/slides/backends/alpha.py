"""Blend transparent pixels with white, so that glass outside the scan is as bright as glass inside it."""

from __future__ import annotations

from enum import Enum

import numpy as np
import tifffile
from tifffile import PHOTOMETRIC

_COLOURS: dict[int, int] = {PHOTOMETRIC.RGB: 3, PHOTOMETRIC.YCBCR: 3, PHOTOMETRIC.SEPARATED: 4}


class Alpha(Enum):
    """The meaning that TIFF's ExtraSamples tag gives to the sample after the colours."""

    UNNAMED = 0  # the tag is missing, or says that it does not know
    ASSOCIATED = 1  # the colours are multiplied by it already
    UNASSOCIATED = 2


def colour_samples(page: tifffile.TiffPage) -> int:
    """Return the number of colour samples per pixel of a TIFF page."""
    return min(_COLOURS.get(page.photometric, 1), page.samplesperpixel)


def alpha_of(page: tifffile.TiffPage) -> Alpha | None:
    """Return the kind of transparency that a TIFF page stores, or None if it has colours only."""
    if page.samplesperpixel <= colour_samples(page):
        return None
    kinds = {kind.value: kind for kind in Alpha}
    return kinds.get(int(page.extrasamples[0]), Alpha.UNNAMED) if page.extrasamples else Alpha.UNNAMED


def on_white(colours: np.ndarray, alpha: np.ndarray, kind: Alpha = Alpha.UNASSOCIATED) -> np.ndarray:
    """Blend pixels with white.

    Args:
        colours: ``(H, W, 3)`` uint8.
        alpha: ``(H, W, 1)`` uint8; 0 is transparent.
        kind: associated or unassociated.
    """
    if alpha.min() == 255:
        return colours
    wide, share = colours.astype(np.uint16), alpha.astype(np.uint16)
    if kind is Alpha.ASSOCIATED:
        return np.minimum(wide + (255 - share), 255).astype(np.uint8)
    # At most 255 * 255 + 127, which 16 bits hold.
    return ((wide * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
