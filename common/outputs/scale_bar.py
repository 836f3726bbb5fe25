"""A scale bar on a picture."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

# Length of the bar as a share of the picture's width, about.
_SHARE = 0.2


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font of ``size`` pixels that has µ and ², which Pillow's own lacks; it comes with matplotlib."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def bar_length(um: float) -> float:
    """Return the round length in µm (1, 2 or 5 times a power of ten) whose ratio to ``um`` is nearest to 1."""
    power = 10.0 ** math.floor(math.log10(um))
    return min((step * power for step in (1, 2, 5, 10)), key=lambda length: abs(math.log(length / um)))


def bar_text(um: float) -> str:
    """Return the text of a length: in mm from 1 mm on, else in µm."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"


def draw_scale_bar(picture: Image.Image, mpp: float, size: int) -> None:
    """Draw a scale bar of a round length into the lower right corner, with its length above it.

    It is black with a white outline, which is visible on any background. A picture without room for it gets none.

    Args:
        picture: the picture to draw on.
        mpp: its µm per pixel.
        size: font size in pixels.
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
