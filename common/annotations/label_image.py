"""Images whose pixel values are labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..classes import IGNORE, UNLABELLED, ClassScheme
from ..slides import Slide
from ..slides.backends.tiff import is_tiff
from ..slides.png import damaged_png_chunk
from .label_tiff import LabelTiff, lossy_error
from .label_values import LabelValues
from .regions import AnnotationError, LabelSource, canvas_scale

# Formats of Pillow whose compression changes values, or may.
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_COLOURS = ("red", "green", "blue", "alpha")


class _Picture(Protocol):
    """Stored values; see :class:`LabelTiff`."""

    shape: tuple[int, int]
    pages: int
    channels: int
    dtype: np.dtype

    def read(self, number: int, top: int, left: int, height: int, width: int) -> np.ndarray: ...


class LabelImage(LabelSource):
    """An image that covers the slide at any scale; its pixels are sampled at the nearest centre.

    Args:
        path: PNG, BMP, or (tiled) TIFF, whose finest level is used.
        scheme: the classes.
        values: pixel value -> class name, or None for unlabelled; without it, the values are the scheme's labels.
        channel: channel with the labels, if there are several: its number from 0, or ``"red"``, ``"green"``,
            ``"blue"`` or ``"alpha"``. Without it all must be equal; an opaque alpha is ignored.
        pages: page number, from 0 -> class of its nonzero pixels, or None for unlabelled. Later pages lie over earlier
            ones.
        origin: ``"slide"``, or ``"bounds"`` if the image covers only the slide's bounds.

    Raises:
        AnnotationError: the image cannot be read, has several pages and ``pages`` is missing, or the options do not fit
            it.
    """

    def __init__(
        self,
        path: Path,
        scheme: ClassScheme,
        values: Mapping[Any, str | None] | None = None,
        channel: int | str | None = None,
        pages: Mapping[Any, str | None] | None = None,
        origin: str = "slide",
    ) -> None:
        if values is not None and pages is not None:
            raise AnnotationError(path, "label_values and label_pages are both given", "Take one of them out")
        self.path, self.origin = path, origin
        self._picture: _Picture = LabelTiff(path) if is_tiff(path) else _PillowPicture(path)
        self.shape = self._picture.shape
        self._channel = _channel(path, channel, self._picture.channels)
        self._values = LabelValues(path, scheme, values, self._picture.dtype)
        self._pages = None if pages is None else _labels_by_page(path, scheme, pages, self._picture.pages)
        if pages is None and self._picture.pages > 1:
            raise AnnotationError(
                path,
                f"it has {self._picture.pages} pages of {self.shape[1]} x {self.shape[0]} pixels",
                'Say which page is which class with label_pages ({"0": a class, "1": …}, null leaves it unlabelled), '
                "or save one page",
            )

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        height, width = (size, size) if isinstance(size, int) else size
        rows = self._positions(slide, 0, center[0], slide.level0_pixels(mpp)[0], height)
        columns = self._positions(slide, 1, center[1], slide.level0_pixels(mpp)[1], width)
        labels = np.full((height, width), UNLABELLED, dtype=np.uint8)
        inside_rows = (rows >= 0) & (rows < self.shape[0])
        inside_columns = (columns >= 0) & (columns < self.shape[1])
        if not inside_rows.any() or not inside_columns.any():
            return labels
        labels[np.ix_(inside_rows, inside_columns)] = self._labels(rows[inside_rows], columns[inside_columns])
        return labels

    def _labels(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the labels at the image's rows and columns."""
        if self._pages is None:
            return self._values.labels(self._stored(0, rows, columns))
        labels = np.full((len(rows), len(columns)), UNLABELLED, dtype=np.uint8)
        for page, label in self._pages.items():
            labels[self._stored(page, rows, columns) != 0] = label
        return labels

    def _stored(self, page: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        top, left = int(rows[0]), int(columns[0])
        read = self._picture.read(page, top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left)
        return self._one_channel(read[(rows - top)[:, None], (columns - left)[None]])

    def _one_channel(self, samples: np.ndarray) -> np.ndarray:
        if self._channel is not None:
            return samples[..., self._channel]
        # Alpha is the second channel of grey images, and the fourth of colour images.
        has_alpha = samples.shape[2] in (2, 4)
        colours = samples[..., :-1] if has_alpha else samples
        same = (colours == colours[..., :1]).all()
        if not same or (has_alpha and not (samples[..., -1] == _opaque(samples.dtype)).all()):
            raise AnnotationError(
                self.path,
                f"{samples.shape[2]} channels that differ",
                'Say which has the labels with label_channel (0, 1, … or "red", "green", "blue"), or save it as grey',
            )
        return colours[..., 0]

    def _positions(self, slide: Slide, axis: int, center: float, pixel: float, count: int) -> np.ndarray:
        frame = slide.frame(self.origin)
        scale = canvas_scale(self.path, self.shape, frame)[axis]
        level0 = center - frame[axis] + (np.arange(count) + 0.5 - count / 2) * pixel
        return np.floor(level0 * scale + 1e-6).astype(np.int64)


class _PillowPicture:
    """The stored values of an image that Pillow reads, in memory; see :class:`LabelTiff`."""

    def __init__(self, path: Path) -> None:
        damage = damaged_png_chunk(path)
        if damage is not None:
            raise AnnotationError(path, damage, "Get an undamaged copy of the file")
        try:
            with Image.open(path) as image:
                # By the content: a file's name may say another format.
                if image.format in _LOSSY:
                    raise lossy_error(path, f"its content is {image.format}, whose compression")
                frames = range(getattr(image, "n_frames", 1))
                pixels = np.stack([_as_stored(path, _frame(image, number)) for number in frames])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise AnnotationError(
                path, f"Pillow cannot read it ({error})", "Save it again, or as a tiled TIFF"
            ) from error
        self._pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        self.shape: tuple[int, int] = self._pixels.shape[1:3]
        self.pages, self.channels, self.dtype = len(self._pixels), self._pixels.shape[3], self._pixels.dtype

    def read(self, number: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._pixels[number, top : top + height, left : left + width]


def _frame(image: Image.Image, number: int) -> np.ndarray:
    if number:
        image.seek(number)
    return np.asarray(image)


def _as_stored(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the values that the file stores. Pillow spreads grey of 2 and 4 bits over 0 to 255, which is undone.

    Raises:
        AnnotationError: the file is a PNG of 16 bits in several channels, of which Pillow drops the lower 8.
    """
    with path.open("rb") as file:
        header = file.read(26)
    if not header.startswith(b"\x89PNG"):
        return pixels
    bits, grey = header[24], header[25] == 0
    if bits == 16 and not grey:
        raise AnnotationError(
            path, "a PNG of 16 bits in several channels", "Save it as grey, with 8 bits per channel, or as TIFF"
        )
    return pixels // (255 // (2**bits - 1)) if grey and bits in (2, 4) else pixels


def _channel(path: Path, channel: int | str | None, channels: int) -> int | None:
    """Return the number of the channel to read; None if there are several and none is named."""
    if channel is None:
        return 0 if channels == 1 else None
    text = str(channel).strip().lower()
    number = _COLOURS.index(text) if text in _COLOURS else int(text) if text.isdecimal() else -1
    # In a grey image, alpha is the second channel.
    number = 1 if text == "alpha" and channels == 2 else number
    if isinstance(channel, bool) or not 0 <= number < channels:
        raise AnnotationError(
            path,
            f"label_channel is {channel!r}, and it has {channels} channel{'s' if channels > 1 else ''}",
            f"Give a number from 0 to {channels - 1}, or a colour ({', '.join(_COLOURS)})",
        )
    return number


def _labels_by_page(path: Path, scheme: ClassScheme, pages: Mapping[Any, str | None], count: int) -> dict[int, int]:
    """Return the label of each page, lowest page first."""
    labels: dict[int, int] = {}
    for page, name in pages.items():
        text = str(page)
        try:
            if not text.isdecimal() or int(text) >= count:
                raise ValueError(f"it has the pages 0 to {count - 1}")
            labels[int(text)] = IGNORE if name is None else scheme.by_name(name).label
        except ValueError as error:
            raise AnnotationError(
                path, f"label_pages maps {page!r} to {name!r}: {error}", "Map pages to class names or null"
            ) from None
    missing = [str(page) for page in range(count) if page not in labels]
    if missing:
        raise AnnotationError(
            path, f"label_pages says nothing of page {', '.join(missing)}", "Map every page, or to null to leave it out"
        )
    return dict(sorted(labels.items()))


def _opaque(dtype: np.dtype) -> float:
    return np.iinfo(dtype).max if dtype.kind in "iu" else 1
