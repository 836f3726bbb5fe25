"""The whole-slide engine."""

from .autocast import AutocastInferer
from .canvas import Canvas
from .engine import Segmented, Segmenter
from .inferer import PrepareSlide, WholeSlideInferer
from .journal import SettingsError
from .options import Options
from .plan import Block, Plan

__all__ = [
    "AutocastInferer",
    "Block",
    "Canvas",
    "Options",
    "Plan",
    "PrepareSlide",
    "Segmented",
    "Segmenter",
    "SettingsError",
    "WholeSlideInferer",
]
