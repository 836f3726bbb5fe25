"""Whole-slide inference: a slide and a network in, maps of the slide and its outputs out."""

from ..renamed import renamed_in
from ..settings import SettingsError
from .autocast import AutocastInferer
from .engine import Segmenter, SlideMaps
from .inferer import PrepareSlide, WholeSlideInferer
from .options import InferenceOptions
from .slide_run import SlideRun

__all__ = [
    "AutocastInferer",
    "InferenceOptions",
    "PrepareSlide",
    "Segmenter",
    "SettingsError",
    "SlideMaps",
    "SlideRun",
    "WholeSlideInferer",
]

__getattr__ = renamed_in(__name__)
