"""Open a slide, read any region at any µm/px, several fields of view around one centre.

Knows neither classes nor torch.
"""

from .backends import PLAIN_SUFFIXES, SLIDE_SUFFIXES
from .bounds import ORIGINS, Bounds, check_origin
from .entry import entry_name, file_name, image_of, open_entry, pixels_key, reading, slide_keys
from .errors import SlideChangedError, SlideError
from .files import has_several_files, slide_state
from .patch import FieldOfView, PatchReader
from .slide import Level, Slide, open_slide, series_of, slide_name
from .tissue import RegionMask, TissueMask, tissue_mask

__all__ = [
    "ORIGINS",
    "PLAIN_SUFFIXES",
    "SLIDE_SUFFIXES",
    "Bounds",
    "FieldOfView",
    "Level",
    "PatchReader",
    "RegionMask",
    "Slide",
    "SlideChangedError",
    "SlideError",
    "TissueMask",
    "check_origin",
    "entry_name",
    "file_name",
    "has_several_files",
    "image_of",
    "open_entry",
    "open_slide",
    "pixels_key",
    "reading",
    "series_of",
    "slide_keys",
    "slide_name",
    "slide_state",
    "tissue_mask",
]
