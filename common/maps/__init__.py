"""The grid of a slide's label map, and the maps on disk that are filled over it. Runs no network."""

from .grid import Block, Plan
from .store import Canvas

__all__ = ["Block", "Canvas", "Plan"]
