"""Pictures of a slide with translucent classes, a scale bar and a legend."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..classes import ClassScheme, TissueClass
from ..files import atomic_write
from ..slides import Slide
from .scale_bar import draw_scale_bar, font

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

_LONGEST_SIDE = 2000
_OPACITY = 0.45
_CLEAR = "not coloured"
_INK, _FRAME = (20, 20, 20), (90, 90, 90)
# Colour of the caption, which is a warning.
_CAUTION = (160, 20, 20)


def write_overlay(
    path: Path, slide: Slide, store: MapStore, grid: TileGrid, scheme: ClassScheme, caption: str | None = None
) -> None:
    """Write a picture of the slide, at most 2,000 pixels per side, with classes laid over it, a scale bar and a legend.

    The scheme's ``skipped`` class is not coloured.

    Args:
        path: path of the PNG file.
        slide: the slide.
        store: the label map.
        grid: its tile grid on the slide.
        scheme: the classes.
        caption: a sentence below the legend.
    """
    view = overview(slide, store, grid, _LONGEST_SIDE)
    clear = () if scheme.skipped is None else (scheme.skipped.label,)
    picture = Image.fromarray(blend(view.tissue, view.values, scheme, _OPACITY, clear))
    draw_scale_bar(picture, view.mpp, letter_size(picture.width))
    with atomic_write(path) as partial:
        with_legend(np.asarray(picture), scheme, _OPACITY, clear, caption).save(partial, format="PNG")


class Overview(NamedTuple):
    """A small picture of a whole slide, and a map of the slide at its pixels.

    Attributes:
        tissue: the picture, ``(h, w, 3)`` uint8.
        values: the map, ``(…, h, w)`` uint8.
        mpp: µm per pixel of both.
    """

    tissue: np.ndarray
    values: np.ndarray
    mpp: float


def overview(slide: Slide, store: MapStore, grid: TileGrid, longest: int) -> Overview:
    """Return a picture of the slide, at most ``longest`` pixels per side, and the map at its pixels."""
    every = max(1, -(-max(store.shape) // longest))
    values = np.concatenate([_thinned(store, top, every) for top in range(0, store.shape[0], store.chunk)], axis=-2)
    pixel = (grid.pixel[0] * every, grid.pixel[1] * every)
    mpp = slide.mpp * (pixel[0] * pixel[1]) ** 0.5
    return Overview(read_at_map(slide, mpp, pixel, values.shape[-2:]), values, mpp)


def read_at_map(slide: Slide, mpp: float, pixel: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Read a whole slide at the pixels of a map of it, ``(height, width, 3)`` uint8.

    Args:
        slide: the slide.
        mpp: µm per pixel of the map.
        pixel: height and width of the map's pixels in level-0 pixels.
        shape: height and width of the map.
    """
    return slide.read((shape[0] / 2 * pixel[0], shape[1] / 2 * pixel[1]), mpp, shape, level_tolerance=0)


def blend(
    tissue: np.ndarray,
    labels: np.ndarray,
    scheme: ClassScheme,
    opacity: float = _OPACITY,
    clear: Collection[int] = (),
) -> np.ndarray:
    """Lay the colours of a label map over an image of the same size.

    Args:
        tissue: ``(height, width, 3)`` uint8.
        labels: ``(height, width)`` uint8; 0 is not coloured.
        scheme: the classes.
        opacity: opacity of the colours, 0 to 1.
        clear: further labels that are not coloured.

    Returns:
        ``(height, width, 3)`` uint8.
    """
    mixed = np.round(tissue * (1 - opacity) + scheme.palette()[labels] * opacity).astype(np.uint8)
    return np.where(np.isin(labels, [0, *clear])[..., None], tissue, mixed)


def letter_size(width: int) -> int:
    """Return a font size, in pixels, that is legible on a picture of ``width`` pixels."""
    return int(np.clip(width / 55, 13, 32))


def with_legend(
    image: np.ndarray,
    scheme: ClassScheme,
    opacity: float = 1.0,
    clear: Collection[int] = (),
    caption: str | None = None,
) -> Image.Image:
    """Return an image with a legend of the classes below.

    Args:
        image: ``(height, width, 3)`` uint8.
        scheme: the classes.
        opacity: opacity of the colours in the image; the legend shows them blended with white.
        clear: labels that are not coloured in the image.
        caption: a sentence below the classes.
    """
    height, width = image.shape[:2]
    size = letter_size(width)
    letters = font(size)
    entries = [
        _Entry.of(tissue_class, letters, opacity, tissue_class.label in clear) for tissue_class in scheme.classes
    ]
    width = max(width, int(max(entry.width for entry in entries) + 1.5 * size))
    lines = _lines(entries, width - size)
    written = wrapped(textwrap.shorten(caption, 400, placeholder=" …"), letters, width - 1.2 * size) if caption else []
    below = height + int((1.9 * len(lines) + 0.8) * size)
    picture = Image.new("RGB", (width, below + int(1.35 * size * len(written) + 0.6 * size * bool(written))), "white")
    picture.paste(Image.fromarray(image))
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        x, y = 0.6 * size, height + (0.8 + 1.9 * number) * size
        for entry in line:
            frame = (round(x), round(y), round(x + 1.1 * size), round(y + 1.1 * size))
            draw.rectangle(frame, fill=entry.color, outline=_FRAME, width=max(1, size // 12))
            draw.text((x + 1.6 * size, y + 0.55 * size), entry.name, fill=_INK, font=letters, anchor="lm")
            x += entry.width
    for number, text in enumerate(written):
        draw.text((0.6 * size, below + 1.35 * size * number), text, fill=_CAUTION, font=letters)
    return picture


def wrapped(text: str, letters: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Return a text in lines of at most ``width`` pixels. A word that is longer gets a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class _Entry(NamedTuple):
    """A class in the legend, and its width in pixels."""

    name: str
    color: tuple[int, int, int]
    width: float

    @classmethod
    def of(cls, tissue_class: TissueClass, letters: ImageFont.FreeTypeFont, opacity: float, clear: bool) -> _Entry:
        name = f"{tissue_class.name} ({_CLEAR})" if clear else tissue_class.name
        on_white = np.round(255 + (np.array(tissue_class.color) - 255) * (0 if clear else opacity)).astype(int)
        return cls(name, tuple(on_white.tolist()), letters.getlength(name) + 3 * letters.size)


def _lines(entries: list[_Entry], width: float) -> list[list[_Entry]]:
    """Return the entries in lines of at most ``width`` pixels."""
    lines: list[list[_Entry]] = [[]]
    for entry in entries:
        if lines[-1] and sum(other.width for other in lines[-1]) + entry.width > width:
            lines.append([])
        lines[-1].append(entry)
    return lines


def _thinned(store: MapStore, top: int, every: int) -> np.ndarray:
    """Return every ``every``-th value of a band, on one lattice for all bands."""
    rows = np.arange(-(-top // every) * every, min(top + store.chunk, store.shape[0]), every)
    band = store.read(top, 0, min(store.chunk, store.shape[0] - top), store.shape[1])
    return band[..., rows - top, ::every]
