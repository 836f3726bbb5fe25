"""Read plain images (PNG, JPEG, BMP) through Pillow, whole in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from ..errors import SlideError
from ..jpeg import jpeg_damage
from ..png import damaged_png_chunk
from .alpha import on_white
from .base import Backend
from .tiff import TiffBackend, is_tiff

# Modes of 8 bits; transparent pixels are blended with white.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class ImageBackend(Backend):
    """A backend of plain images: one level, whole in memory; the largest one of a TIFF.

    The resolution fields of such files hold printing resolutions, so µm/px always comes from the user.
    """

    name: ClassVar[str] = "image"

    def __init__(self, path: Path, series: int | None = None) -> None:
        self.path = path
        self._pixels = _tiff_pixels(path, series) if is_tiff(path) else self._decoded(path, series)
        self.level_shapes = [self._pixels.shape[:2]]
        self.mpp = None
        self.properties = {}

    @staticmethod
    def _decoded(path: Path, series: int | None) -> np.ndarray:
        if series:
            raise SlideError(path, f"it holds one image, not series {series}", "Leave series out")
        damage = damaged_png_chunk(path)
        if damage is not None:
            raise SlideError(path, damage, "Get an undamaged copy of the file")
        try:
            with Image.open(path) as image:
                if image.mode not in _MODES:
                    raise SlideError(path, f"pixels of Pillow's mode {image.mode}", "Convert the file to 8-bit RGB")
                frames = getattr(image, "n_frames", 1)
                # Further images of a camera's JPEG (MPO) are previews of the first.
                if frames > 1 and image.format != "MPO":
                    raise SlideError(path, f"it holds {frames} pictures", "Export one as a file of its own")
                damage = jpeg_damage(path.read_bytes()) if image.format in ("JPEG", "MPO") else None
                if damage is not None:
                    raise SlideError(path, damage, "Get an undamaged copy of the file")
                return _on_white(image)
        except SlideError:
            raise
        except Image.DecompressionBombError as error:
            raise SlideError(path, f"too large to hold in memory ({error})", "Convert it to a tiled TIFF") from error
        except Exception as error:  # Pillow fails on damaged files in many ways
            raise SlideError(path, f"Pillow cannot read it ({error})", "Get an undamaged copy of the file") from error

    def close(self) -> None:
        self._pixels = np.empty((0, 0, 3), dtype=np.uint8)

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._pixels[top : top + height, left : left + width]


def _on_white(image: Image.Image) -> np.ndarray:
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    return on_white(rgba[..., :3], rgba[..., 3:])


def _tiff_pixels(path: Path, series: int | None) -> np.ndarray:
    """Read the slide of a TIFF like every other backend; Pillow would read the first page, whatever it is."""
    tiff = TiffBackend(path, series)
    try:
        height, width = tiff.level_shapes[0]
        if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
            raise SlideError(
                path, f"{width} x {height} pixels are too many to hold in memory", "Use backend='auto' or 'tiff'"
            )
        return tiff.read(0, 0, 0, height, width)
    finally:
        tiff.close()
