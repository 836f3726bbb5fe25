"""Images whose pixel values are labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..classes import LEFT_OUT, UNLABELLED, ClassScheme
from ..slides import Slide, SlideError
from ..slides.backends.tiff import TiffBackend, is_tiff
from ..slides.png import damaged_png_chunk
from .regions import AnnotationError, LabelSource, canvas_scale


class LabelImage(LabelSource):
    """A grey or palette image that covers the slide at any scale; its pixels are sampled at the nearest centre.

    Args:
        path: PNG, or (tiled) TIFF, whose finest level is used.
        scheme: the classes.
        values: pixel value -> class name, or None for unlabelled; without it, the values are the scheme's labels.
    """

    def __init__(self, path: Path, scheme: ClassScheme, values: Mapping[Any, str | None] | None = None) -> None:
        self.path = path
        self._table = self._labels_by_value(path, scheme, values)
        self._tiff: TiffBackend | None = None
        self._pixels: np.ndarray | None = None
        if is_tiff(path):
            try:
                self._tiff = TiffBackend(path)
            except SlideError as error:
                raise AnnotationError(path, error.problem, error.remedy) from error
            self.shape = self._tiff.level_shapes[0]
            bands = self._tiff.pages[0].samplesperpixel
        else:
            self._pixels = _stored_values(path)
            self.shape = self._pixels.shape[:2]
            bands = 1 if self._pixels.ndim == 2 else self._pixels.shape[2]
        if bands != 1:
            raise AnnotationError(
                path, f"{bands} values per pixel", "A label image has one: save it as grey or palette"
            )

    def drawn(self, slide: Slide, center: tuple[float, float], mpp: float, size: int | tuple[int, int]) -> np.ndarray:
        height, width = (size, size) if isinstance(size, int) else size
        rows = self._positions(slide, 0, center[0], slide.pixel(mpp)[0], height)
        columns = self._positions(slide, 1, center[1], slide.pixel(mpp)[1], width)
        labels = np.full((height, width), UNLABELLED, dtype=np.uint8)
        inside_rows = (rows >= 0) & (rows < self.shape[0])
        inside_columns = (columns >= 0) & (columns < self.shape[1])
        if not inside_rows.any() or not inside_columns.any():
            return labels
        rows, columns = rows[inside_rows], columns[inside_columns]
        stored = self._read(rows[0], columns[0], rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])
        stored = stored[(rows - rows[0])[:, None], (columns - columns[0])[None]]
        labels[np.ix_(inside_rows, inside_columns)] = self._checked(stored)
        return labels

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_table": self._table, "_pixels": self._pixels, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tiff = TiffBackend(self.path) if self._pixels is None else None

    def _positions(self, slide: Slide, axis: int, center: float, pixel: float, count: int) -> np.ndarray:
        scale = canvas_scale(self.path, self.shape, slide)[axis]
        level0 = center + (np.arange(count) + 0.5 - count / 2) * pixel
        return np.floor(level0 * scale + 1e-6).astype(np.int64)

    def _read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        if self._tiff is not None:
            return self._tiff.read_samples(0, int(top), int(left), int(height), int(width))[..., 0]
        assert self._pixels is not None
        return self._pixels[top : top + height, left : left + width]

    def _checked(self, stored: np.ndarray) -> np.ndarray:
        labels = np.where(stored < len(self._table), self._table[np.minimum(stored, len(self._table) - 1)], -1)
        if (labels < 0).any():
            unknown = sorted(set(stored[labels < 0].tolist()))
            raise AnnotationError(
                self.path,
                f"pixel values that stand for no class: {unknown}",
                "Say which value is which class with label_values (null leaves it unlabelled)",
            )
        return labels.astype(np.uint8)

    @staticmethod
    def _labels_by_value(path: Path, scheme: ClassScheme, values: Mapping[Any, str | None] | None) -> np.ndarray:
        table = np.full(256, -1, dtype=np.int16)
        if values is None:
            table[: len(scheme) + 1] = np.arange(len(scheme) + 1)
            return table
        for value, name in values.items():
            try:
                if not 0 <= int(value) < len(table):
                    raise ValueError("it is not from 0 to 255")
                table[int(value)] = LEFT_OUT if name is None else scheme.by_name(name).label
            except ValueError as error:
                raise AnnotationError(
                    path,
                    f"label_values maps {value!r} to {name!r}: {error}",
                    "Map pixel values, 0 to 255, to class names or null",
                ) from None
        return table


def _stored_values(path: Path) -> np.ndarray:
    damage = damaged_png_chunk(path)
    if damage is not None:
        raise AnnotationError(path, damage, "Get an undamaged copy of the file")
    try:
        with Image.open(path) as image:
            if image.mode == "1":
                return np.asarray(image).astype(np.uint8)
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AnnotationError(path, f"Pillow cannot read it ({error})", "Save it again, or as a tiled TIFF") from error
