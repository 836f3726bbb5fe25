"""Plain images (PNG, JPEG, BMP) through Pillow, whole in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from ..errors import SlideError
from ..jpeg import jpeg_damage
from ..png import damaged_png_chunk
from .base import Backend

# Of 8 bits; what is transparent lies on white.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class ImageBackend(Backend):
    """One level. Their resolution fields hold printing resolutions, so µm/px always comes from the user."""

    name: ClassVar[str] = "image"

    def __init__(self, path: Path) -> None:
        self.path = path
        damage = damaged_png_chunk(path)
        if damage is not None:
            raise SlideError(path, damage, "Get an undamaged copy of the file")
        try:
            with Image.open(path) as image:
                if image.mode not in _MODES:
                    raise SlideError(path, f"pixels of Pillow's mode {image.mode}", "Convert the file to 8-bit RGB")
                damage = jpeg_damage(path.read_bytes()) if image.format == "JPEG" else None
                if damage is not None:
                    raise SlideError(path, damage, "Get an undamaged copy of the file")
                self._pixels = np.asarray(_on_white(image))
        except SlideError:
            raise
        except Image.DecompressionBombError as error:
            raise SlideError(path, f"too large to hold in memory ({error})", "Convert it to a tiled TIFF") from error
        except Exception as error:  # whatever a damaged file makes Pillow stumble over
            raise SlideError(path, f"Pillow cannot read it ({error})", "Get an undamaged copy of the file") from error
        self.level_shapes = [self._pixels.shape[:2]]
        self.mpp = None
        self.properties = {}

    def close(self) -> None:
        self._pixels = np.empty((0, 0, 3), dtype=np.uint8)

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._pixels[top : top + height, left : left + width]


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
