"""Open a slide and read any region at any µm/px, or several fields of view around one centre.

This room knows neither classes nor torch.
"""

from ..renamed import renamed_in
from .backends import PLAIN_SUFFIXES, SLIDE_SUFFIXES
from .bounds import ORIGINS, Bounds, check_origin
from .entry import entry_name, file_name, image_and_series, open_entry, pixel_fingerprint, read_options, slide_keys
from .errors import SlideChangedError, SlideError
from .files import has_several_files, slide_state
from .patch import FieldOfView, PatchReader
from .slide import Level, Slide, open_slide, parse_series, slide_name
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
    "image_and_series",
    "open_entry",
    "open_slide",
    "parse_series",
    "pixel_fingerprint",
    "read_options",
    "slide_keys",
    "slide_name",
    "slide_state",
    "tissue_mask",
]

__getattr__ = renamed_in(__name__)
