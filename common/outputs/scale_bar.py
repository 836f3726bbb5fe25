"""A scale bar on a picture."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

# Of the picture's width, about.
_SHARE = 0.2


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font that has µ and ², which Pillow's own lacks; matplotlib brings it."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def bar_length(um: float) -> float:
    """Return the length of 1, 2 or 5 times a power of ten (µm) that is nearest to a length in proportion."""
    power = 10.0 ** math.floor(math.log10(um))
    return min((step * power for step in (1, 2, 5, 10)), key=lambda length: abs(math.log(length / um)))


def bar_text(um: float) -> str:
    """Return a bar's length as it is written: in mm from 1 mm on."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"


def draw_scale_bar(picture: Image.Image, mpp: float, size: int) -> None:
    """Draw a bar of a round length, its length above it, into the lower right corner, black with a white outline that
    shows on any ground. A picture that has no room for one gets none.

    Args:
        picture: what to draw on.
        mpp: its µm per pixel.
        size: of the letters, in pixels.
    """
    um = bar_length(_SHARE * picture.width * mpp)
    length, thick, rim = round(um / mpp), max(3, size // 4), max(2, size // 8)
    right, bottom = picture.width - size, picture.height - size
    if length < 1 or right - length < rim or bottom - thick < rim:
        return
    draw = ImageDraw.Draw(picture)
    bar = (right - length, bottom - thick, right - 1, bottom - 1)
    draw.rectangle((bar[0] - rim, bar[1] - rim, bar[2] + rim, bar[3] + rim), fill="white")
    draw.rectangle(bar, fill="black")
    middle = (right - length / 2, bottom - thick - 2 * rim)
    draw.text(middle, bar_text(um), fill="black", font=font(size), anchor="ms", stroke_width=rim, stroke_fill="white")
