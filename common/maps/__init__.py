"""The tile grid of a slide's label map, and its maps on disk. Runs no network."""

from .grid import Block, TileGrid
from .store import MapStore

__all__ = ["Block", "MapStore", "TileGrid"]
