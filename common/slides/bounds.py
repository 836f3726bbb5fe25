"""The scanned part of a slide, and the two origins that positions on it may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_KEYS = tuple(f"openslide.bounds-{name}" for name in ("y", "x", "height", "width"))
# Tiles end at fractions of a pixel. OpenSlide rounds them up for the bounds, and differently for the slide.
_MOST_OVER = 2
ORIGINS = ("slide", "bounds")


class Bounds(NamedTuple):
    """A rectangle in level-0 pixels."""

    top: int
    left: int
    height: int
    width: int


def read_bounds(properties: Mapping[str, str], shape: tuple[int, int]) -> Bounds | None:
    """Return the bounds in OpenSlide's properties, cut at the slide's edge; None where there are none.

    Args:
        properties: properties of the slide.
        shape: height and width of the slide at level 0.

    Raises:
        ValueError: the bounds are incomplete, not whole numbers, empty or not on the slide. The message quotes them.
    """
    stated = {key: properties[key] for key in _KEYS if key in properties}
    if not stated:
        return None
    quote = ", ".join(f"{key} = {value!r:.40}" for key, value in stated.items())
    try:
        top, left, height, width = (int(stated[key]) for key in _KEYS)
    except (KeyError, ValueError):
        raise ValueError(quote) from None
    for start, length, side in ((top, height, shape[0]), (left, width, shape[1])):
        if not 0 <= start < side or length <= 0 or start + length > side + _MOST_OVER:
            raise ValueError(quote)
    return Bounds(top, left, min(height, shape[0] - top), min(width, shape[1] - left))


def check_origin(origin: object) -> None:
    """Check an origin.

    Raises:
        ValueError: it is not in ``ORIGINS``.
    """
    if origin not in ORIGINS:
        raise ValueError(f"origin must be one of {', '.join(ORIGINS)}, not {origin!r:.40}")
