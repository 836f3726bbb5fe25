"""The interface of a slide library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..bounds import Bounds


class Backend(ABC):
    """A file opened by one library.

    Attributes:
        level_shapes: (height, width) of each level, finest first.
        mpp: µm per level-0 pixel as (row, column), or None if the file does not say.
        mpp_quote: the file's statement about it, for errors; empty if there is none.
        properties: other metadata of the file.
        bounds: the scanned part of level 0, or None if the file does not say.
        bounds_quote: the file's impossible bounds; empty if they are possible or there are none.
        remark: warning about image data in the file that is not read; may be empty.
    """

    name: ClassVar[str]
    path: Path
    level_shapes: list[tuple[int, int]]
    mpp: tuple[float, float] | None
    mpp_quote: str = ""
    properties: dict[str, str]
    bounds: Bounds | None = None
    bounds_quote: str = ""
    remark: str = ""

    @abstractmethod
    def __init__(self, path: Path, series: int | None = None) -> None:
        """Open a file; ``series`` is the number of an image of a TIFF."""

    @abstractmethod
    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Read a rectangle inside a level, in the level's pixels. Several threads may call this.

        Returns:
            ``(height, width, 3)`` uint8 RGB; transparent pixels are white.

        Raises:
            SlideError: a part of the rectangle cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""
