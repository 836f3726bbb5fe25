"""The libraries that decode slides, behind one small interface.

``auto`` takes the first that fits, in this order. Plain images go to Pillow. TIFF files that OpenSlide calls generic or
Aperio, or does not know (OME-TIFF), go to ``tiff``, which decodes fastest and checks each tile. Everything else goes to
OpenSlide. cuCIM is used only on request: it returns black pixels for damaged tiles without an error.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import SlideError, UnsupportedLayoutError
from .base import Backend
from .cucim import CucimBackend
from .image import PLAIN_SUFFIXES, ImageBackend
from .openslide import OpenSlideBackend, canvas_remark, detect_format
from .tiff import TiffBackend, is_tiff
from .tiff_images import GIVE_SERIES

BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (TiffBackend, OpenSlideBackend, CucimBackend, ImageBackend)
}
# Suffixes by which slides are found in a folder. The content of a file decides its format.
SLIDE_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm", ".vms", ".vmu", ".svslide"),
    *PLAIN_SUFFIXES,
)
_TIFF_FORMATS = (None, "aperio", "generic-tiff")

__all__ = ["BACKENDS", "GIVE_SERIES", "PLAIN_SUFFIXES", "SLIDE_SUFFIXES", "Backend", "TiffBackend", "open_backend"]


def open_backend(path: Path, name: str = "auto", series: int | None = None) -> Backend:
    """Open a file with a backend.

    Args:
        path: the file.
        name: name of the backend; ``"auto"`` for the best one for the file.
        series: number of the image of a TIFF; None for the default one.

    Raises:
        SlideError: the file cannot be opened.
    """
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"unknown slide backend {name!r}: use auto, {', '.join(BACKENDS)}")
    if not path.exists():
        raise SlideError(path, "no such file", "Check the path, and that the drive it is on is mounted")
    if path.is_dir():
        remedy = f'Name a slide\'s file, of MIRAX the .mrxs, of DICOM one .dcm, or several slides as "{path}/*"'
        raise SlideError(path, "a folder, not a slide", remedy)
    try:
        return _open(path, name, series)
    except OSError as error:
        raise SlideError(path, f"cannot be opened ({error})", "Check your rights, and the drive it is on") from error


def _open(path: Path, name: str, series: int | None) -> Backend:
    if name != "auto":
        backend = BACKENDS[name](path, series)
        if name in ("tiff", "cucim"):
            backend.remark = ". ".join(
                filter(None, (backend.remark, canvas_remark(path, name, backend.level_shapes[0])))
            )
        return backend
    if path.suffix.lower() in PLAIN_SUFFIXES and not is_tiff(path):
        return ImageBackend(path, series)
    vendor = detect_format(path)
    if vendor not in _TIFF_FORMATS:
        return OpenSlideBackend(path, series)
    if not is_tiff(path):
        raise SlideError(path, "neither OpenSlide, tifffile nor Pillow knows this format", "Convert it to a tiled TIFF")
    try:
        return TiffBackend(path, series)
    except UnsupportedLayoutError:
        if vendor is None:
            raise
        return OpenSlideBackend(path, series)
