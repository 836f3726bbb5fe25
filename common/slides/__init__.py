"""Open a slide, read any region at any µm/px, several fields of view around one centre."""

from .backends import SLIDE_SUFFIXES
from .errors import SlideChangedError, SlideError
from .patch import FieldOfView, PatchReader
from .slide import Level, Slide, open_slide, slide_name
from .tissue import RegionMask, TissueMask, tissue_mask

__all__ = [
    "SLIDE_SUFFIXES",
    "FieldOfView",
    "Level",
    "PatchReader",
    "RegionMask",
    "Slide",
    "SlideChangedError",
    "SlideError",
    "TissueMask",
    "open_slide",
    "slide_name",
    "tissue_mask",
]
