"""The whole-slide engine."""

from .autocast import AutocastInferer
from .engine import LabelCanvas, segment
from .inferer import PrepareSlide, WholeSlideInferer
from .plan import Block, Plan

__all__ = ["AutocastInferer", "Block", "LabelCanvas", "Plan", "PrepareSlide", "WholeSlideInferer", "segment"]
