"""The whole-slide engine: a slide and a network in, maps of the slide out."""

from ..renamed import renamed_in
from ..settings import SettingsError
from .autocast import AutocastInferer
from .engine import Segmented, Segmenter
from .inferer import PrepareSlide, WholeSlideInferer
from .options import Options

__all__ = [
    "AutocastInferer",
    "Options",
    "PrepareSlide",
    "Segmented",
    "Segmenter",
    "SettingsError",
    "WholeSlideInferer",
]

__getattr__ = renamed_in(__name__)
