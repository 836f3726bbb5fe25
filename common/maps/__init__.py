"""The grid of a slide's label map, and the maps on disk that are filled over it. Runs no network."""

from .grid import Block, TileGrid
from .store import MapStore

__all__ = ["Block", "MapStore", "TileGrid"]
