"""Convert level positions for libraries that take them in whole level-0 pixels."""

from __future__ import annotations

import numpy as np

_REACH = 32


def aligned_start(start: int, downsample: float) -> tuple[int, int]:
    """Return a level-0 position to read from, and the number of the level's pixels to skip from there to ``start``.

    OpenSlide and cuCIM take level-0 positions and divide by the level's downsample. If that is not a whole number, the
    quotient falls between two of the level's pixels and OpenSlide interpolates. Starting up to 32 pixels earlier, where
    the product is (nearly) whole, avoids that.
    """
    skip = np.arange(min(start, _REACH) + 1)
    position = (start - skip) * downsample
    best = int(np.argmin(np.abs(position - np.round(position)) + skip * 1e-9))
    return round(float(position[best])), best
