"""Tissue with translucent classes and a legend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..classes import ClassScheme
from ..files import written_whole
from ..slides import Slide

if TYPE_CHECKING:
    from ..inference.canvas import Canvas
    from ..inference.plan import Plan

_LONGEST_SIDE = 2000
_OPACITY = 0.45


def write_overlay(path: Path, slide: Slide, canvas: Canvas, plan: Plan, scheme: ClassScheme) -> None:
    """Write a picture of the slide, at most 2,000 pixels a side, classes laid over it."""
    tissue, labels = overview(slide, canvas, plan, _LONGEST_SIDE)
    with written_whole(path) as partial:
        with_legend(blend(tissue, labels, scheme), scheme).save(partial, format="PNG")


def overview(slide: Slide, canvas: Canvas, plan: Plan, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of the slide ``(h, w, 3)``, at most ``longest`` pixels a side, and a map's values at its pixels,
    ``(…, h, w)``."""
    every = max(1, -(-max(canvas.shape) // longest))
    values = np.concatenate([_thinned(canvas, top, every) for top in range(0, canvas.shape[0], canvas.chunk)], axis=-2)
    pixel = (plan.pixel[0] * every, plan.pixel[1] * every)
    height, width = values.shape[-2:]
    mpp = slide.mpp * (pixel[0] * pixel[1]) ** 0.5
    tissue = slide.read((height / 2 * pixel[0], width / 2 * pixel[1]), mpp, (height, width), snap=0)
    return tissue, values


def blend(tissue: np.ndarray, labels: np.ndarray, scheme: ClassScheme, opacity: float = _OPACITY) -> np.ndarray:
    """Lay the colours of ``labels`` (0 stays clear) over an image of the same size."""
    colored = scheme.palette()[labels]
    mixed = np.round(tissue * (1 - opacity) + colored * opacity).astype(np.uint8)
    return np.where((labels > 0)[..., None], mixed, tissue)


def font(size: int) -> ImageFont.FreeTypeFont:
    """A font that has µ and ², which Pillow's own lacks; matplotlib brings it."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def with_legend(image: np.ndarray, scheme: ClassScheme) -> Image.Image:
    """The image with a strip below that names the classes' colours."""
    height, width = image.shape[:2]
    size = int(np.clip(width / 60, 12, 28))
    letters = font(size)
    entries = [(tissue.name, tissue.color, letters.getlength(tissue.name) + 2.8 * size) for tissue in scheme.classes]
    lines: list[list[tuple[str, tuple[int, int, int], float]]] = [[]]
    for entry in entries:
        if lines[-1] and sum(e[2] for e in lines[-1]) + entry[2] > width - size:
            lines.append([])
        lines[-1].append(entry)
    picture = Image.new("RGB", (width, height + int((1.8 * len(lines) + 0.6) * size)), "white")
    picture.paste(Image.fromarray(image))
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        x, y = 0.5 * size, height + (0.6 + 1.8 * number) * size
        for name, color, advance in line:
            draw.rectangle((x, y, x + size, y + size), fill=color, outline="black")
            draw.text((x + 1.4 * size, y - 0.1 * size), name, fill="black", font=letters)
            x += advance
    return picture


def _thinned(canvas: Canvas, top: int, every: int) -> np.ndarray:
    """Every so many-th value of a band, on one lattice for all bands."""
    rows = np.arange(-(-top // every) * every, min(top + canvas.chunk, canvas.shape[0]), every)
    band = canvas.read(top, 0, min(canvas.chunk, canvas.shape[0] - top), canvas.shape[1])
    return band[..., rows - top, ::every]
